import math

import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._location_scale import LocationScale
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.intervals import log_rise
from keras_uq_layers.registration import register

# exp(-750) is 0 even in float64.
_FAR = 750.0


def _log_prob(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    half, half_scale = half_difference(y, loc, scale)
    # Not `abs`: its gradient at 0 is 0 on some backends, 1 on others. And not the
    # sign of a quotient, which is flushed to 0 below a large scale.
    side = ops.cast(y > loc, y.dtype) - ops.cast(y < loc, y.dtype)
    return -divide(side * half, half_scale) - ops.log(scale) - math.log(2.0)


def _log_interval(lower: Tensor, upper: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`log(F(upper) - F(lower))`

    ```
    z - log(2) + log(1 - exp(-width))       on one side of loc, z the nearer end
    log((1 - exp(-a)) + (1 - exp(-b))) / 2  on both sides, a and b from loc
    ```

    with the distances standardised.
    """
    below, above = lower <= -np.inf, upper >= np.inf
    bounded = ops.logical_not(below | above)
    low, half_scale = half_difference(ops.where(below, loc, lower), loc, scale)
    high, _ = half_difference(ops.where(above, loc, upper), loc, scale)
    size, _ = half_difference(upper, lower, scale)
    both = (below | (low <= 0)) & (above | (high >= 0))
    zero = ops.zeros_like(low)
    # On both sides, both terms are positive: nothing cancels.
    left = _share(ops.where(both, -low, half_scale), half_scale, below)
    right = _share(ops.where(both, high, half_scale), half_scale, above)
    across = ops.log(0.5 * left + 0.5 * right)
    nearest = ops.where(both, zero, ops.where(low > 0, -low, high))
    beyond = divide(nearest, half_scale) - math.log(2.0)
    rise = log_rise(ops.where(bounded, size, half_scale), half_scale)
    beyond = beyond + ops.where(bounded, rise, zero)
    return ops.where(both, across, beyond)


def _share(x: Tensor, scale: Tensor, whole: Tensor) -> Tensor:
    """`1 - exp(-x / scale)`, and 1 for the whole side."""
    whole = whole | (x >= _FAR * scale)
    z = divide(ops.where(whole, scale, x), scale)
    return ops.where(whole, ops.ones_like(z), -ops.expm1(-z))


def _cdf(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`exp(z) / 2` where `z < 0`, else `1 - exp(-z) / 2`."""
    half, half_scale = half_difference(y, loc, nan_unless_positive(scale))
    far = ops.abs(half) >= _FAR * half_scale
    z = divide(ops.where(far, ops.zeros_like(half), half), half_scale)
    # The sides are chosen, not |z|, whose gradient at 0 would be 0.
    below = z < 0
    zero = ops.zeros_like(z)
    lower = 0.5 * ops.exp(ops.where(below, z, zero))
    upper = 1.0 - 0.5 * ops.exp(-ops.where(below, zero, z))
    near_value = ops.where(below, lower, upper)
    return ops.where(far, ops.cast(half > 0, half.dtype), near_value)


def _quantile(p: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`loc + scale log(2 p)` where `p < 1/2`, else `loc - scale log(2 - 2 p)`."""
    p, loc, scale = widen(p, loc, nan_unless_positive(scale))
    below = p < 0.5
    half = 0.5 * ops.ones_like(p)
    lower = ops.log(2.0 * ops.where(below, p, half))
    upper = -ops.log(2.0 * (1.0 - ops.where(below, half, p)))
    return loc + scale * ops.where(below, lower, upper)


def _crps(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`|y - loc| + scale (exp(-|y - loc| / scale) - 3/4)`

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    scale = nan_unless_positive(scale)
    distance = ops.abs(y - loc)
    far = distance >= _FAR * scale
    z = divide(ops.where(far, ops.zeros_like(distance), distance), scale)
    tail = ops.where(far, ops.zeros_like(distance), ops.exp(-z))
    return distance + scale * (tail - 0.75)


@register("families.Laplace")
class Laplace(LocationScale):
    """Laplace (double exponential) distribution with params `[loc | scale]`.

    ```
    log p(y) = -|y - loc| / scale - log(2 scale)
    ```

    `loc` is the mean and median, `scale` the mean absolute deviation, in the
    unit of `y`; the standard deviation is `sqrt(2) * scale`. Its likelihood
    minimises absolute errors: it is less moved by outliers than the normal.

    Example:

    >>> family = uq.families.Laplace()
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931
    """

    name = "laplace"

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 0.0, scale / math.sqrt(2.0)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def variance(self, params: Tensor) -> Tensor:
        _, scale = self.split(params)
        return 2.0 * ops.square(scale)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        loc, scale = parts
        z = (y - loc) / scale
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z < 0.0, tail, 1.0 - tail)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return _quantile(p, *self.split(params))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def entropy(self, params: Tensor) -> Tensor:
        """Differential entropy of each output, in nats: `(..., D)`."""
        _, scale = self.split(params)
        return ops.log(scale) + math.log(2.0 * math.e)
