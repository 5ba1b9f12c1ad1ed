import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import conformal_quantile
from keras_uq_layers.calibration._base import open_level
from keras_uq_layers.calibration._base import to_array
from keras_uq_layers.registration import register


@register("calibration.AdaptivePredictionSets")
class AdaptivePredictionSets(Calibrator):
    """Sets of classes that hold the right one with a guaranteed probability.

    ```
    score(class) = probability of all classes more likely than it
                   + u * its own probability,   u uniform on (0, 1)
    set = classes whose score is at most the threshold
    ```

    The guarantee: the label of a new example, exchangeable with the
    calibration examples, is in its set with probability at least `level`, and
    at most `level + 1 / (n + 1)`, however wrong the probabilities are. It
    holds on average over examples, not for each class. Hard examples get
    large sets; an easy one may get an empty set, which the exactness costs.
    With `randomized=False`, u is 1: no empty sets, and more than `level`.

    Args:
        level: Coverage wanted, between 0 and 1.
        randomized: Whether u is drawn.
        seed: Integer seed of u.
        threshold: The fitted state, for loading.

    Raises:
        ValueError: `level` is not inside (0, 1).

    Example:

    >>> probabilities = np.tile([[0.7, 0.2, 0.1]], (9, 1))
    >>> calibrator = uq.calibration.AdaptivePredictionSets(0.8, randomized=False)
    >>> calibrator = calibrator.fit(probabilities, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    >>> calibrator.sets(probabilities[:1]).tolist()
    [[True, True, False]]

    References:
        Romano, Sesia & Candes, 2020, "Classification with Valid and Adaptive
        Coverage", NeurIPS, arXiv:2006.02544.
    """

    def __init__(self, level=0.9, randomized=True, seed=0, threshold=None):
        self.level = open_level("level", level)
        self.randomized = arguments.boolean("randomized", randomized)
        self.seed = seed
        self.threshold = None if threshold is None else float(threshold)

    def fit(self, prediction, y):
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` with `.probabilities`, or probabilities
                `(N, K)`.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 to `K - 1`.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Probabilities that do not add up to 1, labels out of
                range, shapes that do not agree, or too few points for the
                level: at least `level / (1 - level)`.
        """
        probabilities = _read(prediction)
        y = labels(y, *probabilities.shape)
        scores = self._scores(probabilities, offset=0)
        self.threshold = float(
            conformal_quantile(scores[np.arange(len(y)), y], self.level)
        )
        return self

    def sets(self, prediction):
        """Which classes are in the set of each example: booleans `(N, K)`."""
        self._require_fit(self.threshold)
        return self._scores(_read(prediction), offset=1) <= self.threshold + 1e-12

    def _scores(self, probabilities, offset):
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ranked = np.take_along_axis(probabilities, order, axis=1)
        u = np.ones((len(probabilities), 1))
        if self.randomized:
            # Calibration and new examples need draws of their own.
            u = np.random.default_rng([self.seed, offset]).uniform(size=u.shape)
        ranked = np.cumsum(ranked, axis=1) - ranked + u * ranked
        scores = np.empty_like(ranked)
        np.put_along_axis(scores, order, ranked, axis=1)
        return scores

    def get_config(self):
        return {
            "level": self.level,
            "randomized": self.randomized,
            "seed": self.seed,
            "threshold": self.threshold,
        }


def _read(prediction):
    array = to_array(getattr(prediction, "probabilities", prediction))
    if array.ndim != 2 or array.shape[1] < 2 or not (array >= 0).all():
        raise ValueError(
            "`prediction` must hold probabilities of shape (N, K), K from 2 on. "
            f"Received: an array of shape {array.shape}"
        )
    if not np.allclose(array.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(
            "`prediction` must hold probabilities that add up to 1 (logits need a "
            f"softmax). Received: a row that adds up to {array.sum(axis=1)[0]:g}"
        )
    return array


def labels(y, rows, classes):
    """Labels as whole numbers `(rows,)`, checked."""
    array = to_array(y)
    if array.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"`y` must have one label per example, shape ({rows},). "
            f"Received: y of shape {array.shape}"
        )
    array = array.reshape(rows)
    wrong = ~((array >= 0) & (array < classes) & (array == np.floor(array)))
    if wrong.any():
        raise ValueError(
            f"`y` must hold labels from 0 to {classes - 1}. Received: "
            f"{np.count_nonzero(wrong)} other value(s), the first is {array[wrong][0]}"
        )
    return array.astype("int64")
