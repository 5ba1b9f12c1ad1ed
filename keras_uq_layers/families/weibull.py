import functools
import math

import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._positive import PositiveParams
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import gammainc
from keras_uq_layers.numerics import lgamma
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.intervals import log_ratio
from keras_uq_layers.numerics.intervals import log_rise
from keras_uq_layers.registration import register

CONCENTRATION_FLOOR = 0.1
"""Smallest learned concentration: below, the variance would overflow float32."""

# A survival of exp(-750) is 0 even in float64.
_FAR = math.log(750.0)


def _log_prob(y: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """`log(k) - log(y) + u - exp(u)`, `u = k log(y / scale)`"""
    outside = (y <= 0) | (y >= np.inf)
    y, scale, k = within_support(outside, y, scale, k)
    u = k * _log_ratio(y, scale)
    # Where the exponential overflows, `u` may do so too: inf - inf.
    lost = u > math.log(float(finfo(u.dtype).max))
    u = ops.where(lost, ops.zeros_like(u), u)
    inside = ops.log(k) - ops.log(y) + u - ops.exp(u)
    return ops.where(outside | lost, ops.full_like(inside, -np.inf), inside)


def _log_ratio(y: Tensor, scale: Tensor) -> Tensor:
    """`log(y / scale)`, from the exact difference where they are close."""
    ratio = divide(y, scale)
    near = (ratio > 0.6) & (ratio < 1.5)
    excess = divide(ops.where(near, y - scale, ops.zeros_like(ratio)), scale)
    return ops.where(near, ops.log1p(excess), ops.log(y) - ops.log(scale))


def _log_interval(lower: Tensor, upper: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """`log(exp(-h(lower)) - exp(-h(upper)))`, `h(y) = (y / scale)^k`

    As `log(1 - exp(-(h(upper) - h(lower)))) - h(lower)`, the difference by its
    logarithm.
    """
    below, above = lower <= 0, upper >= np.inf
    bounded = ops.logical_not(below | above)
    (first,) = within_support(below, lower)
    (last,) = within_support(above, upper)
    start, end = (k * _log_ratio(y, scale) for y in (first, last))
    zero = ops.zeros_like(start)
    width = k * log_ratio(first, last, bounded)
    rise = ops.where(bounded, log_rise(width, ops.ones_like(width)), zero)
    lost = start > math.log(float(finfo(start.dtype).max))
    survived = ops.where(below, zero, ops.exp(ops.where(lost, zero, start)))
    value = ops.where(above, zero, _log_died(end + rise)) - survived
    return ops.where(lost & ops.logical_not(below), -np.inf, value)


def _log_died(log_hazard: Tensor) -> Tensor:
    """`log(1 - exp(-exp(log_hazard)))`"""
    certain, rare = log_hazard > _FAR, log_hazard < -5.0
    some = ops.where(certain | rare, ops.zeros_like(log_hazard), log_hazard)
    value = log_rise(ops.exp(some), ops.ones_like(some))
    # Here the hazard itself may underflow.
    log_few = ops.where(rare, log_hazard, ops.full_like(log_hazard, -5.0))
    few = ops.exp(log_few)
    series = log_few - 0.5 * few + few * few * (1.0 / 24.0 - few * few * (1.0 / 2880.0))
    value = ops.where(rare, series, value)
    return ops.where(certain, ops.zeros_like(value), value)


def _log_hazard(y: Tensor, scale: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`k log(y / scale)`, else 0 where nothing or all is below: these two, too."""
    below, above = y <= 0, y >= np.inf
    (safe,) = within_support(below | above, y)
    u = k * _log_ratio(safe, scale)
    above = above | (u > _FAR)
    return ops.where(below | above, ops.zeros_like(u), u), below, above


def _cdf(y: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """`1 - exp(-(y / scale)^k)`"""
    u, below, above = _log_hazard(y, scale, k)
    hazard = ops.exp(u)
    # Where most are below, the slope of `expm1` has lost its digits on PyTorch.
    most = hazard > 0.7
    half = ops.full_like(hazard, 0.7)
    few_below = -ops.expm1(-ops.where(most, half, hazard))
    few_above = ops.exp(-ops.where(most, hazard, half))
    inside = ops.where(most, 1.0 - few_above, few_below)
    inside = ops.where(above, ops.ones_like(inside), inside)
    return ops.where(below, ops.zeros_like(inside), inside)


def _quantile(p: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """`scale (-log(1 - p))^(1 / k)`"""
    p, scale, k = widen(p, nan_unless_positive(scale), k)
    return scale * ops.exp(divide(ops.log(-ops.log1p(-p)), k))


def _log_mean(k: Tensor) -> Tensor:
    """`log(Gamma(1 + 1 / k))`, for a scale of 1."""
    return lgamma(1.0 + 1.0 / k)


def _log_square_ratio(k: Tensor) -> Tensor:
    """`log(E[Y^2] / E[Y]^2)`, about `(pi / k)^2 / 6` for a large k."""
    x = 1.0 / k
    many = x < 0.2
    small = ops.where(many, x, ops.zeros_like(x))
    series = ops.zeros_like(x)
    for coefficient in reversed(_series()):
        series = series * small + coefficient
    # For a large k the two terms cancel.
    large = ops.where(many, ops.ones_like(x), x)
    difference = lgamma(1.0 + 2.0 * large) - 2.0 * lgamma(1.0 + large)
    return ops.where(many, series * small * small, difference)


@functools.cache
def _series() -> tuple[float, ...]:
    """Of `lgamma(1 + 2 x) - 2 lgamma(1 + x)`, from `x^2` on."""
    from scipy.special import zeta

    n = np.arange(2, 40)
    return tuple(((-1.0) ** n * (2.0**n - 2.0) * zeta(n) / n).tolist())


def _crps(y: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """Continuous ranked probability score; `inf` where the mean overflows.

    ```
    crps = y (2 F(y) - 1) + mean (2^(-1 / k) - 2 P(1 + 1 / k, (y / scale)^k))
    ```

    with `P` the regularised incomplete gamma function: `mean P` is the part of
    the mean that lies below `y`, `mean (1 - 2^(-1 / k))` half of the mean
    distance of two draws.
    """
    inside = larger(y, 0.0)
    u, below, above = _log_hazard(inside, scale, k)
    mean = scale * ops.exp(_log_mean(k))
    share = gammainc(1.0 + 1.0 / k, ops.exp(u))
    share = ops.where(below, ops.zeros_like(share), share)
    share = ops.where(above, ops.ones_like(share), share)
    value = inside * (2.0 * _cdf(inside, scale, k) - 1.0)
    value = value + mean * (ops.exp(-math.log(2.0) / k) - 2.0 * share)
    value = ops.where(ops.isinf(mean), ops.full_like(value, math.inf), value)
    return value + ops.abs(y - inside)


@register("families.Weibull")
class Weibull(PositiveParams):
    """Weibull distribution of positive `y`, with params `[scale | concentration]`.

    ```
    log p(y) = log(k / y) + k log(y / scale) - (y / scale)^k
    1 - F(y) = exp(-(y / scale)^k)
    ```

    with `k` the concentration, which has no unit. It describes lifetimes. The
    rate at which those die that are still alive rises with age where `k` is
    above 1, and falls where `k` is below 1. With `k = 1` it is constant: the
    exponential distribution. `scale` is in the unit of `y`: a share of
    `1 - 1/e`, 63 %, dies before it.

    A learned concentration is above `families.weibull.CONCENTRATION_FLOOR`
    (0.1), so that the variance can be represented.

    Example:

    >>> family = uq.families.Weibull()
    >>> params = np.array([[2.0, 1.0]])  # scale, concentration: exponential
    >>> round(float(family.log_prob(np.array([2.0]), params)[0]), 4)
    -1.6931
    >>> round(float(family.cdf(np.array([2.0]), params)[0, 0]), 4)
    0.6321

    Reference:
        Weibull, 1951, "A Statistical Distribution Function of Wide
        Applicability", J. Applied Mechanics 18(3), doi:10.1115/1.4010337.
    """

    name = "weibull"
    parameters = ("scale", "concentration")
    spread = ("concentration",)
    floors = (POSITIVE_FLOOR, CONCENTRATION_FLOOR)
    lower = 0.0
    target_unit = "scale"

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        # Mean 1, and that standard deviation to within a few percent where it is
        # below 1 (Justus et al., 1978).
        k = max(scale**-1.086, 2.0 * CONCENTRATION_FLOOR)
        return math.exp(-math.lgamma(1.0 + 1.0 / k)), k

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        scale, concentration = self.split(params)
        return scale * ops.exp(_log_mean(concentration))

    def variance(self, params: Tensor) -> Tensor:
        _, concentration = self.split(params)
        relative = ops.expm1(_log_square_ratio(concentration))
        return ops.square(self.mean(params)) * relative

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        scale, concentration = parts
        return -np.expm1(-((np.maximum(y, 0.0) / scale) ** concentration))

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return _quantile(p, *self.split(params))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def entropy(self, params: Tensor) -> Tensor:
        """Differential entropy of each output, in nats: `(..., D)`."""
        scale, k = self.split(params)
        return np.euler_gamma * (1.0 - 1.0 / k) + ops.log(scale) - ops.log(k) + 1.0

    def rescale(self, params: Tensor, factor: Tensor) -> Tensor:
        scale, concentration = self.split(params)
        return self.join(factor * scale, concentration)
