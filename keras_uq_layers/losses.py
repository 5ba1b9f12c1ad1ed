"""Losses: thin users of a family."""

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers.families.scoring import scored
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.registration import register

__all__ = ["CRPS", "NegativeLogLikelihood", "Pinball", "constant_normal_nll"]


class _MeanOfValues(keras.losses.Loss):
    """Keras's own reduction, for values that are there already."""

    def call(self, y_true, y_pred):
        return y_pred


class FamilyLoss(keras.losses.Loss):
    """Abstract: a loss with one value per batch position, read by a family.

    Positions that are masked out, or have weight 0, are made safe before the
    family is evaluated and contribute exactly 0, whatever they hold.
    """

    def __init__(self, family, reduction, name, dtype):
        # A log likelihood needs float32 at least, whatever the float type.
        dtype = at_least_float32(dtype or keras.config.floatx())
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.family = families.get(family)
        # Under this name: TensorFlow has no root scope "__mean_of_values", which
        # Keras would make of the class, and the loss may be all there is in a
        # graph.
        self._reduce = _MeanOfValues(name=name, reduction=reduction, dtype=dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        all_count = sample_weight is None and _keras.mask_of(y_pred) is None
        if isinstance(y_true, np.ndarray) and all_count:
            # Only what is on the host: inside of `fit` a target outside the
            # support has a loss of inf and no gradient.
            self.family.check_target(y_true, y_pred)
        y, params, weights, mask, valid = scored(
            self.family, y_true, y_pred, sample_weight, self.dtype
        )
        values = self.call(y, params)
        if valid is not None:
            values = ops.where(valid, values, ops.zeros_like(values))
        if mask is not None:
            # As in Keras: the mean is over the positions that count.
            share = ops.cast(ops.broadcast_to(mask, ops.shape(values)), self.dtype)
            if self.reduction in ("sum_over_batch_size", "mean"):
                share = ops.divide_no_nan(share, ops.mean(share))
            weights = share if weights is None else weights * share
        if weights is not None:
            weights = ops.broadcast_to(weights, ops.shape(values))
        return self._reduce(values, values, sample_weight=weights)

    def call(self, y_true, y_pred):
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "family": families.serialize(self.family),
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
        family: Name or object of the family of the head.
        beta: Between 0 (maximum likelihood) and 1 (the mean learns as with
            squared errors). Seitzer et al. recommend 0.5.
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As for `keras.losses.Loss`; float32 at least.

    Call arguments:
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`.
        sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
            positions; a weight of 0 excludes a position even if it is NaN.

    Raises:
        ValueError: An unknown family, a `beta` outside `[0, 1]`, or shapes of
            targets, params or weights that do not agree.

    Example:

    >>> loss = uq.losses.NegativeLogLikelihood()
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 1.0]]))), 4)
    0.9189
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 0.01]]))), 4)
    -3.6862

    References:
        Seitzer et al., 2022, "On the Pitfalls of Heteroscedastic Uncertainty
        Estimation with Probabilistic Neural Networks", ICLR, arXiv:2203.09168.
    """

    def __init__(
        self,
        family="normal",
        beta=0.0,
        reduction="sum_over_batch_size",
        name="negative_log_likelihood",
        dtype=None,
    ):
        super().__init__(family, reduction, name, dtype)
        self.beta = arguments.probability("beta", beta)
        if self.beta > 0 and not self.family.independent:
            raise ValueError(
                f"`beta` must be 0 for the family {self.family.name!r}, whose outputs "
                f"are correlated: they cannot be weighted one by one. Received: "
                f"beta={beta!r}"
            )

    def call(self, y_true, y_pred):
        if self.beta == 0:
            return -self.family.log_prob(y_true, y_pred)
        nll = -self.family.marginal_log_prob(y_true, y_pred)
        factor = ops.power(self.family.variance(y_pred), self.beta)
        return ops.sum(ops.stop_gradient(factor) * nll, axis=-1)

    def get_config(self):
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
        family: Name or object of a family with a `crps`.
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As for `keras.losses.Loss`; float32 at least.

    Call arguments:
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`.
        sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
            positions; a weight of 0 excludes a position even if it is NaN.

    Raises:
        ValueError: An unknown family, or shapes of targets, params or weights
            that do not agree.
        NotImplementedError: The family has no CRPS in closed form.

    Example:

    >>> loss = uq.losses.CRPS()
    >>> round(float(loss(np.array([[0.0]]), np.array([[0.0, 1.0]]))), 4)
    0.2337

    References:
        Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules, Prediction,
        and Estimation", JASA 102(477), doi:10.1198/016214506000001437.
    """

    def __init__(
        self,
        family="normal",
        reduction="sum_over_batch_size",
        name="crps",
        dtype=None,
    ):
        super().__init__(family, reduction, name, dtype)

    def call(self, y_true, y_pred):
        return ops.mean(self.family.crps(y_true, y_pred), axis=-1)


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
            positions; a weight of 0 excludes a position even if it is NaN.

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
        self, levels, reduction="sum_over_batch_size", name="pinball", dtype=None
    ):
        super().__init__(families.Quantiles(levels), reduction, name, dtype)
        self.levels = self.family.levels

    def call(self, y_true, y_pred):
        return ops.mean(self.family.pinball(y_true, y_pred), axis=-1)

    def get_config(self):
        config = super().get_config()
        del config["family"]
        return {**config, "levels": list(self.levels)}


def constant_normal_nll(y, y_test=None):
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


def _rows(y, name):
    array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"`{name}` must hold targets, shape (N, D) or (N,). "
            f"Received: {name} of shape {array.shape}"
        )
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
