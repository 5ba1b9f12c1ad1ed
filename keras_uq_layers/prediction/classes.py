"""Predictions of classes, with their passes or without."""

import functools
from typing import Any

import numpy as np

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction import mixture
from keras_uq_layers.prediction.moments import Moments
from keras_uq_layers.prediction.moments import rows_of
from keras_uq_layers.prediction.prediction import Prediction


class _Classes(Moments):
    """Abstract: what predictions of classes have besides their moments."""

    _names = ("mean", "entropy", "expected_entropy", "mutual_information")
    expected_entropy: Any

    @property
    def probabilities(self) -> Array:
        return self.mean

    @property
    def entropy(self) -> Array:
        p = self.mean
        if isinstance(self.family, families.Categorical):
            return _plogp(p).sum(axis=-1)
        return _plogp(p) + _plogp(1.0 - p)

    @property
    def mutual_information(self) -> Array:
        # Never negative, but for rounding.
        return np.maximum(self.entropy - self.expected_entropy, 0.0)


class ClassMoments(_Classes):
    """`Moments` of classes: probabilities, and their entropy split by its source.

    `uq.predict(..., keep_samples=False)` returns it for a family of classes.

    Args:
        mean: Mean probabilities, `(N, ..., K)`.
        aleatoric_variance: Mean of the variances of the passes.
        epistemic_variance: Variance of their means.
        expected_entropy: Mean entropy of the passes, in nats.
        family: Name or object of the family of the passes.
        passes: Number of passes.

    Attributes:
        entropy: Entropy of the mean probabilities.
        expected_entropy: Mean entropy of the passes.
        mutual_information: Their difference: how much the passes disagree.

    Other attributes are those of `Moments`.

    Example:

    >>> even, none = np.full((1, 2), 0.5), np.zeros((1, 2))
    >>> moments = uq.ClassMoments(even, none, even**2, none[:, 0], "categorical", 2)
    >>> round(float(moments.mutual_information[0]), 2)  # log(2)
    0.69
    """

    def __init__(
        self,
        mean: Array,
        aleatoric_variance: Array,
        epistemic_variance: Array,
        expected_entropy: Array,
        family: Identifier,
        passes: int,
    ) -> None:
        super().__init__(mean, aleatoric_variance, epistemic_variance, family, passes)
        self.expected_entropy = to_numpy(expected_entropy)

    def __getitem__(self, rows: Any) -> "ClassMoments":
        rows = rows_of(rows, len(self))
        mean, aleatoric, epistemic = (value[rows] for value in self._moments)
        entropy = self.expected_entropy[rows]
        return ClassMoments(
            mean, aleatoric, epistemic, entropy, self.family, self.passes
        )


class ClassPrediction(_Classes, Prediction):
    """The predictive distribution over classes: a mixture over passes.

    ```
    entropy            = H(mean over s of p_s)      total
    expected_entropy   = mean over s of H(p_s)      aleatoric
    mutual_information = entropy - expected_entropy epistemic
    ```

    For a categorical family one value per example; for a Bernoulli family
    one per output, each a question of its own. In nats.

    Args:
        samples: Array `(S, N, ..., K)`: the logits, or the probabilities, of
            every pass.
        family: `"categorical"`, `"bernoulli"`, or the object of such a family.
        copy: As for `Prediction`.

    Attributes:
        probabilities: Mean probabilities: of the `K` classes, or of a 1. The
            `mean` by another name.
        entropy: Entropy of the mean probabilities.
        expected_entropy: Mean entropy of the passes.
        mutual_information: How much the passes disagree; at least 0.

    Other attributes are those of `Prediction`, for the one-hot vector. Where the
    classes have an order, as those of an `OrdinalHead`, `median`, `quantile` and
    `interval` are labels, one for each example: `(N, ...)`.

    Example:

    >>> disagree = np.array([[[9.0, -9.0]], [[-9.0, 9.0]]])
    >>> prediction = uq.ClassPrediction(disagree, "categorical")
    >>> round(float(prediction.mutual_information[0]), 2)  # log(2)
    0.69

    References:
        Houlsby et al., 2011, "Bayesian Active Learning for Classification and
        Preference Learning", arXiv:1112.5745. Depeweg et al., 2018,
        "Decomposition of Uncertainty in Bayesian Deep Learning", ICML,
        arXiv:1710.07283.
    """

    @functools.cached_property
    def expected_entropy(self) -> Array:  # type: ignore[override]
        def entropy(family, params):
            return mixture.evaluate(family.entropy, params).mean(axis=0)

        return self._each(entropy)

    def _quantiles(self, levels: Array) -> Array:
        p = self.mean[..., None]
        if isinstance(self.family, families.Categorical):
            _check_order(self.family, "quantiles or intervals", "probabilities")
            # The last class holds what rounding leaves.
            labels = (p.cumsum(axis=-2)[..., :-1, :] < levels).sum(axis=-2)
            return np.where(np.isnan(p).any(axis=-2), np.nan, labels)
        return np.where(np.isnan(p), np.nan, levels > 1.0 - p)

    def crps(self, y: Tensor) -> Array:
        """Brier score `(y - p)^2`, or of classes with an order the ranked score.

        ```
        ranked score = sum over k of (P(class <= k) - [y <= k])^2
        ```

        Args:
            y: Zeros and ones `(N, ..., D)`, or `(N, ...)` where `D` is 1; for a
                categorical family labels, or probabilities.

        Returns:
            Array `(N, ..., D)`, for a categorical family `(N, ...)`.

        Raises:
            NotImplementedError: The classes have no order.
        """
        y = self._aligned(y)
        if not isinstance(self.family, families.Categorical):
            return np.square(y - self.mean)
        _check_order(self.family, "CRPS", "log_prob")
        below = (y - self.mean).cumsum(axis=-1)[..., :-1]
        outside = ((y < 0) | (y > 1)).any(axis=-1)
        return np.where(outside, np.inf, np.square(below).sum(axis=-1))

    def log_prob(self, y: Tensor) -> Array:
        """Log probability of `y` under the mixture, in nats.

        For labels `log(mean over s of p_s(y))`; for probabilities over `K`
        classes the negative cross-entropy to the mean probabilities.

        Args:
            y: Labels, or probabilities, as for the family.

        Returns:
            Array `(N, ...)`.

        Raises:
            ValueError: The shape of `y` does not fit.
        """
        if not isinstance(self.family, families.Categorical):
            return super().log_prob(y)
        log_p = self._each(_log_probabilities)
        y = self._aligned(y)
        outside = ((y < 0) | (y > 1)).any(axis=-1)
        terms = y * np.where(y == 0, 0.0, log_p)
        total = np.where(outside, -np.inf, terms.sum(axis=-1))
        return np.where(self._known, total, np.nan)


def _check_order(family: families.Categorical, quantity: str, instead: str) -> None:
    if not family.ordered:
        raise NotImplementedError(
            f"Classes have no order, and the family 'categorical' no {quantity}. Use "
            f"`{instead}` instead, or, where they have one, "
            "`uq.families.Categorical(ordered=True)`."
        )


def _log_probabilities(family: families.Categorical, params: Array) -> Array:
    """Log of the mean probabilities of all classes, `(n, K)`."""

    terms = mixture.evaluate(family.marginal_log_prob, np.ones_like(params), params)
    return mixture.log_mean_exp(terms)


def _plogp(p: Array) -> Array:
    """`-p log p`, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))
