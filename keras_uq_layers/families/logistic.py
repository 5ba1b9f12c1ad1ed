import math

from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._location_scale import LocationScale
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.logistic_interval import FAR
from keras_uq_layers.numerics.logistic_interval import logistic_log_interval
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`-2 log(2 cosh(z / 2)) - log(scale)`"""
    half, half_scale = half_difference(y, loc, scale)
    # The magnitude with a slope of 0 at 0, on every backend.
    side = ops.cast(y > loc, half.dtype) - ops.cast(y < loc, half.dtype)
    distance = side * half
    zero = ops.zeros_like(distance)
    # Near the centre the slope is a small difference of exponentials. That of
    # cosh(x)^2 = 1 + sinh(x)^2 keeps its digits.
    near = distance < half_scale
    far = distance >= FAR * half_scale
    close = divide(ops.where(near, distance, zero), half_scale)
    # Not `ops.sinh`, which Keras computes in float32 on JAX.
    sinh = 0.5 * (ops.expm1(0.5 * close) - ops.expm1(-0.5 * close))
    centre = ops.log1p(ops.square(sinh)) + math.log(4.0)
    beyond = divide(ops.where(near, zero, distance), half_scale)
    middle = divide(ops.where(near | far, zero, distance), half_scale)
    tail = ops.where(far, zero, ops.exp(-middle))
    outer = beyond + 2.0 * ops.log1p(tail)
    return -ops.where(near, centre, outer) - ops.log(scale)


def _cdf(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`1 / (1 + exp(-z))`, with the digits of the slope in both tails."""
    half, half_scale = half_difference(y, loc, nan_unless_positive(scale))
    far = ops.abs(half) >= FAR * half_scale
    z = divide(ops.where(far, ops.zeros_like(half), half), half_scale)
    # The sides are chosen, not |z|, whose gradient at 0 would be 0.
    below = z < 0
    zero = ops.zeros_like(z)
    lower = _lower_tail(ops.where(below, z, zero))
    upper = 1.0 - _lower_tail(-ops.where(below, zero, z))
    near_value = ops.where(below, lower, upper)
    return ops.where(far, ops.cast(half > 0, half.dtype), near_value)


def _lower_tail(z: Tensor) -> Tensor:
    """The sigmoid of a `z` up to 0. That of a backend may lose the digits here."""
    share = ops.exp(z)
    return share / (1.0 + share)


def _quantile(p: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`loc + scale log(p / (1 - p))`"""
    p, loc, scale = widen(p, loc, nan_unless_positive(scale))
    tail = smaller(p, 1.0 - p)
    z = ops.log(tail / (1.0 - tail))
    return loc + scale * ops.where(p <= 0.5, z, -z)


def _crps(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`|y - loc| + scale (2 log(1 + exp(-|y - loc| / scale)) - 1)`

    Reference:
        Taillardat et al., 2016, "Calibrated Ensemble Forecasts Using Quantile
        Regression Forests and Ensemble Model Output Statistics", Monthly
        Weather Review 144(6), doi:10.1175/MWR-D-15-0260.1.
    """
    scale = nan_unless_positive(scale)
    distance = ops.abs(y - loc)
    far = distance >= FAR * scale
    z = divide(ops.where(far, ops.zeros_like(distance), distance), scale)
    tail = ops.where(far, ops.zeros_like(distance), ops.exp(-z))
    return distance + scale * (2.0 * ops.log1p(tail) - 1.0)


@register("families.Logistic")
class Logistic(LocationScale):
    """Logistic distribution with params `[loc | scale]`.

    ```
    log p(y) = -z - 2 log(1 + exp(-z)) - log(scale),   z = (y - loc) / scale
    ```

    `loc` is the mean and median, in the unit of `y`; the standard deviation
    is `pi / sqrt(3) * scale`. Its tails are heavier than those of a normal
    and lighter than those of a Student's t. Its distribution function is the
    sigmoid: forecasts of the weather and ordinal models use it.

    Example:

    >>> family = uq.families.Logistic()
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -1.3863
    >>> round(float(family.cdf(np.array([0.0]), params)[0, 0]), 4)
    0.5

    Reference:
        Messner et al., 2014, "Heteroscedastic Extended Logistic Regression
        for Postprocessing of Ensemble Guidance", Monthly Weather Review
        142(1), doi:10.1175/MWR-D-13-00271.1.
    """

    name = "logistic"

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 0.0, scale * math.sqrt(3.0) / math.pi

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return logistic_log_interval(lower, upper, *self.split(params))

    def variance(self, params: Tensor) -> Tensor:
        _, scale = self.split(params)
        return (math.pi**2 / 3.0) * ops.square(scale)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import expit

        loc, scale = parts
        return expit((y - loc) / scale)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return _quantile(p, *self.split(params))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def entropy(self, params: Tensor) -> Tensor:
        """Differential entropy of each output, in nats: `(..., D)`."""
        _, scale = self.split(params)
        return ops.log(scale) + 2.0
