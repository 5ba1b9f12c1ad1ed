from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import conformal_quantile
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction.uncertainty import labels
from keras_uq_layers.prediction.uncertainty import probabilities
from keras_uq_layers.registration import register


@register("calibration.AdaptivePredictionSets")
class AdaptivePredictionSets(Calibrator):
    """Sets of classes that hold the right class with a guaranteed probability.

    ```
    score(class) = probability of all classes more likely than it
                   + u * its own probability,   u uniform on (0, 1)
    set = classes whose score is at most the threshold
    ```

    The guarantee holds however wrong the probabilities are. The label of a
    new example that is exchangeable with the calibration examples is in its
    set with probability at least `level`, and at most `level + 1 / (n + 1)`.
    This is an average over examples and does not hold for each class. Hard
    examples get large sets. An easy example may get an empty set: this is the
    price of the upper bound. With `randomized=False`, u is 1; then no set is
    empty, and the coverage may be above the upper bound.

    It takes what `uq.predict` returns for any classifier, or an array of
    probabilities `(N, K)` from any other library, such as `predict_proba` of
    scikit-learn.

    Args:
        level: Coverage wanted, inside (0, 1).
        randomized: Whether u is drawn.
        seed: Integer seed of u.
        threshold: The fitted state, for loading.

    Raises:
        ValueError: `level` is not inside (0, 1), or `threshold` is negative
            or not finite.

    Example:

    >>> probabilities = np.tile([0.7, 0.2, 0.1], (9, 1))
    >>> calibrator = uq.calibration.AdaptivePredictionSets(0.8, randomized=False)
    >>> calibrator = calibrator.fit(probabilities, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    >>> calibrator.sets(probabilities)[0].tolist()
    [True, True, False]

    References:
        Romano, Sesia & Candes, 2020, "Classification with Valid and Adaptive
        Coverage", NeurIPS, arXiv:2006.02544.
    """

    def __init__(
        self,
        level: float = 0.9,
        randomized: bool = True,
        seed: int = 0,
        threshold: float | None = None,
    ) -> None:
        self.level = arguments.open_probability("level", level)
        self.randomized = arguments.boolean("randomized", randomized)
        self.seed = seed
        self.threshold: float | None = None
        if threshold is not None:
            self.threshold = arguments.non_negative_float("threshold", threshold)

    def fit(self, prediction: Moments | Array, y: Tensor) -> Self:
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` or `ClassMoments` of N examples, of the
                family `"categorical"`, or `"bernoulli"` with one output; or an
                array of probabilities `(N, K)`, K at least 2.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 to `K - 1`.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: The prediction is not one of classes, labels out of
                range, shapes that do not agree, or too few points for the
                level: at least `level / (1 - level)`.
        """
        p = probabilities(prediction)
        y = labels(y, *p.shape)
        scores = self._scores(p, offset=0)
        self.threshold = float(
            conformal_quantile(scores[np.arange(len(y)), y], self.level)
        )
        return self

    def sets(self, prediction: Moments | Array) -> Array:
        """Which classes are in the set of each example: booleans `(N, K)`."""
        threshold = self._require_fit(self.threshold)
        return self._scores(probabilities(prediction), offset=1) <= threshold + 1e-12

    def _scores(self, p: Array, offset: int) -> Array:
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=1)
        u = np.ones((len(p), 1))
        if self.randomized:
            # Calibration and new examples need draws of their own.
            u = np.random.default_rng([self.seed, offset]).uniform(size=u.shape)
        ranked = np.cumsum(ranked, axis=1) - ranked + u * ranked
        scores = np.empty_like(ranked)
        np.put_along_axis(scores, order, ranked, axis=1)
        return scores

    def get_config(self) -> Config:
        return {
            "level": self.level,
            "randomized": self.randomized,
            "seed": self.seed,
            "threshold": self.threshold,
        }
