import math

import numpy as np
from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families._location_scale import LocationScale
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.intervals import log_ratio
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.normal import Phi
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    outside = (y <= 0) | (y >= np.inf)
    # The params too: 0 times an infinite slope would be NaN.
    y, loc, scale = within_support(outside, y, loc, scale)
    log_y = ops.log(y)
    inside = numerics.normal_log_prob(log_y, loc, scale) - log_y
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _log_interval(lower: Tensor, upper: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """That of the normal between the logarithms of the ends."""
    below, above = lower <= 0, upper >= np.inf
    (first,) = within_support(below, lower)
    (last,) = within_support(above, upper)
    width = log_ratio(first, last, ops.logical_not(below | above))
    return normal_log_interval(
        ops.where(below, -np.inf, ops.log(first)),
        ops.where(above, np.inf, ops.log(last)),
        loc,
        scale,
        width,
    )


def _cdf(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`Phi((log(y) - loc) / scale)`"""
    outside = y <= 0
    log_y = ops.log(ops.where(outside, ops.ones_like(y), y))
    inside = numerics.normal_cdf(log_y, loc, scale)
    return ops.where(outside, ops.zeros_like(inside), inside)


def _crps(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Continuous ranked probability score; `inf` where the mean overflows.

    ```
    crps = y (2 F(y) - 1) - 2 mean (F(y; loc + scale^2) + Phi(scale / sqrt(2)) - 1)
    ```

    Reference:
        Baran & Lerch, 2015, "Log-normal distribution based EMOS models for
        probabilistic wind-speed forecasting", QJRMS 141, doi:10.1002/qj.2521.
    """
    inside = larger(y, 0.0)
    cdf = _cdf(inside, loc, scale)
    # The distribution with loc + scale^2 is the size-biased one.
    shifted = _cdf(inside, loc + ops.square(scale), scale)
    mean = ops.exp(loc + 0.5 * ops.square(scale))
    # 1 - Phi(scale / sqrt(2)), without the cancellation.
    upper = Phi(-scale * math.sqrt(0.5))
    value = inside * (2.0 * cdf - 1.0) + 2.0 * mean * (upper - shifted)
    value = ops.where(ops.isinf(mean), ops.full_like(value, math.inf), value)
    return value + ops.abs(y - inside)


@register("families.LogNormal")
class LogNormal(LocationScale):
    """Log-normal distribution of positive `y`, with params `[loc | scale]`.

    ```
    log p(y) = log N(log(y); loc, scale) - log(y)
    ```

    `loc` and `scale` are the mean and standard deviation of `log(y)`: the
    median of `y` is `exp(loc)`, its mean `exp(loc + scale^2 / 2)`. The scale
    floor of a head is one of `log(y)`, thus a relative one.

    Example:

    >>> family = uq.families.LogNormal()
    >>> params = np.array([[0.0, 1.0]])  # loc, scale of log(y)
    >>> round(float(family.log_prob(np.array([1.0]), params)[0]), 4)
    -0.9189
    >>> round(float(family.mean(params)[0, 0]), 4)
    1.6487
    """

    name = "log_normal"
    lower = 0.0
    target_unit = "scale"
    # A shifted log-normal is none: there is no `affine`, only `rescale`.
    affine = Family.affine

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        # Mean 1 and that standard deviation.
        variance = math.log1p(scale**2)
        return -0.5 * variance, math.sqrt(variance)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        loc, scale = self.split(params)
        return ops.exp(loc + 0.5 * ops.square(scale))

    def variance(self, params: Tensor) -> Tensor:
        loc, scale = self.split(params)
        # mean^2 (exp(scale^2) - 1), with one exponential that overflows last.
        variance = ops.square(scale)
        return ops.exp(2.0 * loc + 2.0 * variance) * -ops.expm1(-variance)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import ndtr

        loc, scale = parts
        with np.errstate(divide="ignore"):  # of 0: minus infinity
            return ndtr((np.log(np.maximum(y, 0.0)) - loc) / scale)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return ops.exp(numerics.normal_quantile(p, *self.split(params)))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def rescale(self, params: Tensor, factor: Tensor) -> Tensor:
        loc, scale = self.split(params)
        return self.join(loc + ops.log(factor), scale)
