"""Losses: thin users of a family."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.reading import family_of_params
from keras_uq_layers.reading import is_placeholder
from keras_uq_layers.registration import register
from keras_uq_layers.scoring import scored

__all__ = ["CRPS", "NegativeLogLikelihood", "Pinball", "constant_normal_nll"]


class FamilyLoss(keras.losses.Loss):
    """Abstract: a loss with one value per batch position, read by a family.

    Positions that are masked out, or have weight 0, are made safe before the
    family is evaluated. They contribute exactly 0, whatever they hold. A
    subclass gives `values`.

    Attributes:
        likelihood: Whether `values` reads `y` by `log_prob` alone.
        summed: Whether `values` are sums over the outputs, and not means.
    """

    likelihood = False
    summed = False

    def __init__(
        self,
        family: Identifier,
        reduction: str | None,
        name: str,
        dtype: str | None,
    ) -> None:
        # A log likelihood needs float32 at least, whatever the float type.
        dtype = at_least_float32(dtype or keras.config.floatx())
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.family = None if family is None else families.get(family)
        # A name stands for the head's family of that name, with its arguments.
        self._given = family if isinstance(family, str) else self.family

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        if self.family is None and is_placeholder(y_pred):
            return ops.zeros((), dtype=self.dtype)
        family = family_of_params(y_pred, self._given)
        all_count = sample_weight is None and _keras.mask_of(y_pred) is None
        if isinstance(y_true, np.ndarray) and all_count:
            # Only on the host. In `fit` a target outside the support has a
            # loss of inf and no gradient.
            family.check_target(y_true, y_pred)
        rows = scored(
            family, y_true, y_pred, sample_weight, self.dtype, self.likelihood
        )
        values = self.values(family, rows.y, rows.params)
        if rows.valid is not None:
            values = ops.where(rows.valid, values, ops.zeros_like(values))
        values, weights, mask = rows.of_positions(values, self.summed)
        return _keras.reduce_values(values, weights, mask, self.reduction, self.dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """One value per batch position, without weights and masks."""
        return self.values(family_of_params(y_pred, self._given), y_true, y_pred)

    def values(self, family: families.Family, y: Tensor, params: Tensor) -> Tensor:
        """One value per batch position.

        Args:
            family: The `families.Family` that reads the params.
            y: Targets `(..., D)`.
            params: Params `(..., P * D)`.

        Returns:
            Tensor of shape `(...)`.
        """
        raise NotImplementedError

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "family": families.serialize(self._given),
            "dtype": self.dtype,
        }


@register("losses.NegativeLogLikelihood")
class NegativeLogLikelihood(FamilyLoss):
    """Negative log likelihood of the targets, in nats, summed over outputs.

    ```
    loss = -log p(y | params)                               beta = 0
    loss = sum over D of stop_gradient(variance^beta) * nll    beta > 0
    ```

    One value per batch position; Keras averages over the positions.

    **A negative loss is right.** A density is not a probability: it exceeds 1
    where the scale is below 0.4, and its logarithm is then positive. It also
    depends on the unit of y: measured in metres instead of millimetres the
    same fit has a loss lower by `log(1000)`. To judge a value, compare it with
    that of the best constant normal, `uq.losses.constant_normal_nll(y)`.

    With `beta > 0` the gradient of each output is multiplied by its variance
    to the power of `beta`: examples that the model believes to be noisy keep
    their say in the mean. The value is then no likelihood; watch
    `uq.metrics.NegativeLogLikelihood`.

    Args:
        family: Name or object of a family. None: that of the head which made
            `y_pred`.
        beta: Between 0 (maximum likelihood) and 1 (the mean learns as with
            squared errors). Seitzer et al. recommend 0.5.
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As for `keras.losses.Loss`; float32 at least.

    Call arguments:
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`.
        sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
            positions; a weight of 0 excludes a position even if it is NaN. Where
            `D` is above 1 and the outputs are independent, also one weight for
            each output, `(..., D)`: it multiplies what that output adds to the
            loss, and 0 excludes that output.

    Raises:
        ValueError: An unknown family, or another one than that of the head; a
            `beta` outside `[0, 1]`; shapes of targets, params or weights that
            do not agree. Without a `family`, `y_pred` must be the output of a
            head.

    Example:

    >>> loss = uq.losses.NegativeLogLikelihood("normal")
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 1.0]]))), 4)
    0.9189
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 0.01]]))), 4)
    -3.6862

    References:
        Seitzer et al., 2022, "On the Pitfalls of Heteroscedastic Uncertainty
        Estimation with Probabilistic Neural Networks", ICLR, arXiv:2203.09168.
    """

    likelihood = True
    summed = True

    def __init__(
        self,
        family: Identifier = None,
        beta: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "negative_log_likelihood",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, reduction, name, dtype)
        self.beta = arguments.probability("beta", beta)
        if self.family is not None:
            self._check_beta(self.family)

    def _check_beta(self, family: families.Family) -> None:
        if self.beta > 0 and not family.independent:
            raise ValueError(
                f"`beta` must be 0 for the family {family.name!r}: its outputs are "
                "correlated and cannot be weighted one by one. Received: "
                f"beta={self.beta!r}"
            )

    def values(self, family: families.Family, y: Tensor, params: Tensor) -> Tensor:
        self._check_beta(family)
        if self.beta == 0:
            return -family.log_prob(y, params)
        nll = -family.marginal_log_prob(y, params)
        factor = ops.power(family.variance(params), self.beta)
        return ops.sum(ops.stop_gradient(factor) * nll, axis=-1)

    def get_config(self) -> Config:
        return {**super().get_config(), "beta": self.beta}


@register("losses.CRPS")
class CRPS(FamilyLoss):
    """Continuous ranked probability score, in the unit of y, mean over outputs.

    ```
    crps = integral over t of (F(t) - 1[t >= y])^2
         = E|Y - y| - E|Y - Y'| / 2,   Y, Y' ~ F independent
    ```

    One value per batch position; Keras averages over the positions. A strictly
    proper score like the negative log likelihood, and the absolute error where
    the prediction is a point. It grows linearly with the distance of an
    outlier, where the log likelihood of a normal grows quadratically: it is
    the more robust loss, and not a likelihood: a KL does not belong beside it.

    Args:
        family: Name or object of a family with a `crps`. None: that of the
            head which made `y_pred`.
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As for `keras.losses.Loss`; float32 at least.

    Call arguments:
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`.
        sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
            positions; a weight of 0 excludes a position even if it is NaN. Where
            `D` is above 1 and the outputs are independent, also one weight for
            each output, `(..., D)`: it multiplies what that output adds to the
            loss, and 0 excludes that output.

    Raises:
        ValueError: An unknown family, or another one than that of the head;
            shapes of targets, params or weights that do not agree. Without a
            `family`, `y_pred` must be the output of a head.
        NotImplementedError: The family has no CRPS in closed form.

    Example:

    >>> loss = uq.losses.CRPS("normal")
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 1.0]]))), 4)
    0.2337

    References:
        Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules, Prediction,
        and Estimation", JASA 102(477), doi:10.1198/016214506000001437.
    """

    def __init__(
        self,
        family: Identifier = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "crps",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, reduction, name, dtype)

    def values(self, family: families.Family, y: Tensor, params: Tensor) -> Tensor:
        return ops.mean(family.crps(y, params), axis=-1)


@register("losses.Pinball")
class Pinball(FamilyLoss):
    """Pinball (quantile) loss, averaged over the levels and the outputs.

    ```
    loss = mean over levels, outputs of
           level * (y - q) where y > q, else (1 - level) * (q - y)
    ```

    For a head with the family `uq.families.Quantiles(levels)`. In the unit of
    y; one value per batch position.

    Args:
        levels: Increasing probabilities in (0, 1), those of the head.
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As for `keras.losses.Loss`; float32 at least.

    Call arguments:
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Quantiles `(..., Q * D)`.
        sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
            positions; a weight of 0 excludes a position even if it is NaN. Where
            `D` is above 1 and the outputs are independent, also one weight for
            each output, `(..., D)`: it multiplies what that output adds to the
            loss, and 0 excludes that output.

    Raises:
        ValueError: `levels` is empty, not increasing or outside of (0, 1), or
            shapes do not agree.

    Example:

    >>> loss = uq.losses.Pinball([0.1, 0.9])
    >>> round(float(loss(np.array([[2.0]]), np.array([[0.0, 1.0]]))), 4)
    0.55

    Reference:
        Koenker & Bassett, 1978, "Regression Quantiles", Econometrica 46(1),
        doi:10.2307/1913643.
    """

    def __init__(
        self,
        levels: Sequence[float],
        reduction: str | None = "sum_over_batch_size",
        name: str = "pinball",
        dtype: str | None = None,
    ) -> None:
        quantiles = families.Quantiles(levels)
        super().__init__(quantiles, reduction, name, dtype)
        self.levels = quantiles.levels

    def values(self, family: families.Family, y: Tensor, params: Tensor) -> Tensor:
        assert isinstance(family, families.Quantiles)
        return ops.mean(family.pinball(y, params), axis=-1)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["family"]
        return {**config, "levels": list(self.levels)}


def constant_normal_nll(y: Tensor, y_test: Tensor | None = None) -> float:
    """Negative log likelihood of the best constant normal, in nats.

    ```
    mean over examples, sum over outputs of -log N(y_test; mean(y), std(y))
    ```

    The reference for a negative log likelihood: a model with a higher one has
    learned nothing. On the data that it was fitted to it is
    `log(std) + log(2 pi e) / 2` for each output.

    Args:
        y: Training targets `(N, D)` or `(N,)`: the normal is fitted to them.
        y_test: Targets to score; `None` is `y` itself.

    Returns:
        Float, in nats per example.

    Raises:
        ValueError: Fewer than two targets, targets that are not finite, a
            constant output, or `y_test` of another width.

    Example:

    >>> round(uq.losses.constant_normal_nll(np.array([-1.0, 1.0])), 4)
    1.4189
    """
    y = _rows(y, "y")
    y_test = y if y_test is None else _rows(y_test, "y_test")
    if len(y) < 2 or not np.isfinite(y).all():
        raise ValueError(
            "`y` must hold at least two targets, all finite. "
            f"Received: y of shape {y.shape}"
        )
    if y_test.shape[1] != y.shape[1]:
        raise ValueError(
            f"`y_test` must have {y.shape[1]} output(s), as `y`. "
            f"Received: y_test of shape {y_test.shape}"
        )
    loc, scale = y.mean(axis=0), y.std(axis=0)
    if not (scale > 0).all():
        raise ValueError(
            "`y` must vary: the density of a constant is infinite. "
            f"Received: standard deviations {scale.tolist()}"
        )
    z = (y_test - loc) / scale
    nll = 0.5 * z**2 + np.log(scale) + 0.5 * np.log(2.0 * np.pi)
    return float(nll.sum(axis=1).mean())


def _rows(y: Tensor, name: str) -> Array:
    array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"`{name}` must hold targets, shape (N, D) or (N,). "
            f"Received: {name} of shape {array.shape}"
        )
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)


_namespace.define(__name__)
