from collections.abc import Sequence
from typing import Any
from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import conformal_quantile
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction.uncertainty import labels
from keras_uq_layers.prediction.uncertainty import probabilities
from keras_uq_layers.registration import register

_BY_CLASS = "classes"


class _PredictionSets(Calibrator):
    """Abstract: the classes whose score is at most a threshold.

    A subclass gives the scores. There is one threshold, or one for each group.
    """

    def __init__(
        self,
        level: float,
        threshold: Floats | None,
        groups: str | Sequence[Any] | None,
    ) -> None:
        self.level = arguments.open_probability("level", level)
        self.threshold: Any = None
        if threshold is not None:
            found = np.asarray(threshold, dtype="float64")
            if not (np.isfinite(found) & (found >= 0)).all():
                raise arguments.error(
                    "threshold",
                    "a non-negative finite number for each group",
                    threshold,
                )
            self.threshold = found.tolist()
        self.groups = groups

    def fit(
        self,
        prediction: Moments | Array,
        y: Tensor,
        groups: str | Sequence[Any] | Array | None = None,
    ) -> Self:
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` or `ClassMoments` of N examples, of the
                family `"categorical"`, or `"bernoulli"` with one output; or an
                array of probabilities `(N, K)`, K at least 2.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 to `K - 1`.
            groups: For coverage within groups (Mondrian): `"classes"`, the groups
                of equal labels, or an array `(N,)` of names or numbers that are
                known also for new examples. None: one group of all.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: The prediction is not one of classes, labels out of
                range, shapes that do not agree, or too few points for the
                level: at least `level / (1 - level)` in each group.
        """
        p = probabilities(prediction)
        y = labels(y, *p.shape)
        scores = self._scores(p, offset=0)[np.arange(len(y)), y]
        if groups is None:
            self.groups = None
            self.threshold = float(conformal_quantile(scores, self.level))
            return self
        if isinstance(groups, str):
            self.groups = arguments.one_of("groups", groups, (_BY_CLASS,))
            names, cell = np.arange(p.shape[1]), y
        else:
            names, cell = np.unique(_names(groups, len(y)), return_inverse=True)
            self.groups = names.tolist()
        self.threshold = [
            float(
                conformal_quantile(
                    scores[cell == i],
                    self.level,
                    of=f" in each group, also in {name!s}",
                )
            )
            for i, name in enumerate(names)
        ]
        return self

    def sets(
        self,
        prediction: Moments | Array,
        groups: Sequence[Any] | Array | None = None,
    ) -> Array:
        """Which classes are in the set of each example: booleans `(N, K)`.

        Args:
            prediction: As for `fit`, of the examples in question.
            groups: The groups of these examples, if `fit` was given an array of
                groups; else None.
        """
        threshold = np.asarray(self._require_fit(self.threshold))
        p = probabilities(prediction)
        by_name = isinstance(self.groups, list)
        if by_name != (groups is not None):
            rule = (
                "given, as it was to `fit`" if by_name else "None: `fit` had no array"
            )
            raise arguments.error("groups", rule, groups)
        if by_name:
            threshold = threshold[self._cells(_names(groups, len(p)))][:, None]
        return self._scores(p, offset=1) <= threshold + 1e-12

    def _cells(self, names: Array) -> Array:
        """Which group of `fit` each example belongs to."""
        known = np.asarray(self.groups)
        cell = np.minimum(np.searchsorted(known, names), len(known) - 1)
        if (known[cell] != names).any():
            unknown = names[known[cell] != names][0]
            raise ValueError(
                f"`groups` must be among those of `fit`, {known.tolist()}. Received: "
                f"{unknown!s}"
            )
        return cell

    def _scores(self, p: Array, offset: int) -> Array:
        """Scores `(N, K)`: small for the classes that belong into a set.

        Args:
            p: Probabilities `(N, K)`.
            offset: 0 for examples of `fit` and 1 for new ones, which need random
                numbers of their own.
        """
        raise NotImplementedError

    def get_config(self) -> Config:
        return {"level": self.level, "threshold": self.threshold, "groups": self.groups}


def _names(groups: Any, rows: int) -> Array:
    found = np.asarray(groups)
    if found.shape != (rows,) or found.dtype.kind not in "biuU":
        raise ValueError(
            f"`groups` must be one name or whole number for each of the {rows} "
            f"example(s). Received: an array of shape {found.shape} of {found.dtype}"
        )
    return found


@register("calibration.AdaptivePredictionSets")
class AdaptivePredictionSets(_PredictionSets):
    """Sets of classes that hold the right class with a guaranteed probability.

    ```
    score(class) = probability of all classes more likely than it
                   + u * its own probability,   u uniform on (0, 1)
                   + penalty * (rank - unpenalized), where that is positive
    set = classes whose score is at most the threshold
    ```

    The guarantee holds however wrong the probabilities are. The label of a
    new example that is exchangeable with the calibration examples is in its
    set with probability at least `level`, and at most `level + 1 / (n + 1)`.
    This is an average over examples and does not hold for each class, unless
    `fit` is told to with `groups="classes"`. Hard examples get large sets. An
    easy example may get an empty set: this is the price of the upper bound. With
    `randomized=False`, u is 1; then no set is empty, and the coverage may be
    above the upper bound.

    With many classes, the sum of many small probabilities is mostly noise, and
    sets are large. A `penalty` on the classes after the most likely ones makes
    them smaller (regularized adaptive prediction sets, RAPS), and the guarantee
    stays. `LeastAmbiguousSets` are smaller still on average, and say less about
    which examples are hard.

    It takes what `uq.predict` returns for any classifier, or an array of
    probabilities `(N, K)` from any other library, such as `predict_proba` of
    scikit-learn.

    Args:
        level: Coverage wanted, inside (0, 1).
        randomized: Whether u is drawn.
        seed: Integer seed of u.
        penalty: Added to the score for each rank above `unpenalized`, a number
            from 0 on; 0.01 is a start. Choose it on other rows than those of
            `fit`.
        unpenalized: How many of the most likely classes have no penalty.
        threshold: The fitted state, for loading.
        groups: The fitted state: None, `"classes"`, or the names of the groups.

    Raises:
        ValueError: `level` is not inside (0, 1), or `penalty` or a threshold is
            negative or not finite, or `unpenalized` is not a positive integer.

    Example:

    >>> probabilities = np.tile([0.7, 0.2, 0.1], (9, 1))
    >>> calibrator = uq.calibration.AdaptivePredictionSets(0.8, randomized=False)
    >>> calibrator = calibrator.fit(probabilities, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    >>> calibrator.sets(probabilities)[0].tolist()
    [True, True, False]

    References:
        Romano, Sesia & Candes, 2020, "Classification with Valid and Adaptive
        Coverage", NeurIPS, arXiv:2006.02544. Angelopoulos et al., 2021,
        "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR,
        arXiv:2009.14193. Vovk, 2012, "Conditional Validity of Inductive Conformal
        Predictors", ACML, arXiv:1209.2673 (groups).
    """

    def __init__(
        self,
        level: float = 0.9,
        randomized: bool = True,
        seed: int = 0,
        penalty: float = 0.0,
        unpenalized: int = 1,
        threshold: Floats | None = None,
        groups: str | Sequence[Any] | None = None,
    ) -> None:
        super().__init__(level, threshold, groups)
        self.randomized = arguments.boolean("randomized", randomized)
        self.seed = seed
        self.penalty = arguments.non_negative_float("penalty", penalty)
        self.unpenalized = arguments.positive_int("unpenalized", unpenalized)

    def _scores(self, p: Array, offset: int) -> Array:
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=1)
        u = np.ones((len(p), 1))
        if self.randomized:
            u = np.random.default_rng([self.seed, offset]).uniform(size=u.shape)
        ranked = np.cumsum(ranked, axis=1) - ranked + u * ranked
        above = np.arange(1, p.shape[1] + 1) - self.unpenalized
        ranked += self.penalty * np.maximum(above, 0)
        scores = np.empty_like(ranked)
        np.put_along_axis(scores, order, ranked, axis=1)
        return scores

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "randomized": self.randomized,
            "seed": self.seed,
            "penalty": self.penalty,
            "unpenalized": self.unpenalized,
        }


@register("calibration.LeastAmbiguousSets")
class LeastAmbiguousSets(_PredictionSets):
    """The smallest sets of classes with a guaranteed coverage, on average.

    ```
    score(class) = 1 - its probability
    set = classes whose score is at most the threshold
    ```

    The guarantee is that of `AdaptivePredictionSets`: the label of a new example
    that is exchangeable with the calibration examples is in its set with
    probability at least `level`, and at most `level + 1 / (n + 1)` where scores
    have no ties. If the probabilities are right, no other sets with this coverage
    are smaller on average. The price: an example that is hard gets a set that
    covers less often than `level`, and may get an empty one; an easy example is
    covered more often.

    Args:
        level: Coverage wanted, inside (0, 1).
        threshold: The fitted state, for loading.
        groups: The fitted state: None, `"classes"`, or the names of the groups.

    Raises:
        ValueError: `level` is not inside (0, 1), or a threshold is negative or
            not finite.

    Example:

    >>> probabilities = np.tile([0.7, 0.2, 0.1], (9, 1))
    >>> calibrator = uq.calibration.LeastAmbiguousSets(0.8)
    >>> calibrator = calibrator.fit(probabilities, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    >>> calibrator.sets(probabilities)[0].tolist()
    [True, True, False]

    References:
        Sadinle, Lei & Wasserman, 2019, "Least Ambiguous Set-Valued Classifiers
        with Bounded Error Levels", JASA 114(525), arXiv:1609.00451.
    """

    def __init__(
        self,
        level: float = 0.9,
        threshold: Floats | None = None,
        groups: str | Sequence[Any] | None = None,
    ) -> None:
        super().__init__(level, threshold, groups)

    def _scores(self, p: Array, offset: int) -> Array:
        return np.maximum(1.0 - p, 0.0)  # a softmax rounds to above 1
