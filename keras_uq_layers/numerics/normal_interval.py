"""The probability that a normal gives to an interval, in logarithms."""

import math

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.normal import Phi
from keras_uq_layers.numerics.normal import log_ndtr
from keras_uq_layers.numerics.normal import log_ndtr_scaled
from keras_uq_layers.numerics.normal import normal_log_prob
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI

# Beyond 40 standard deviations the tail is 0 even in float64.
_FAR = 40.0
# Where the density falls by exp(-100) between the ends, the farther one is lost.
_LOST = 100.0
# So many standard deviations are a width in which no density changes.
_THIN = 1e-20


def normal_log_interval(
    lower: Tensor,
    upper: Tensor,
    loc: Tensor,
    scale: Tensor,
    width: Tensor | None = None,
) -> Tensor:
    """Log probability that a normal number lies between two ends.

    ```
    log(Phi((upper - loc) / scale) - Phi((lower - loc) / scale))
    ```

    Without a difference of two rounded numbers: the tails in logarithms, and for
    a narrow interval the density times the width.

    Args:
        lower: Tensor of lower ends, also `-inf`.
        upper: Tensor of upper ends, above the lower ones, also `inf`.
        loc: Tensor of means.
        scale: Tensor of standard deviations, positive.
        width: `upper - lower`, where it is known better than from the difference.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(normal_log_interval(40.0, np.inf, 0.0, 1.0)), 2)
    -804.61
    """
    lower, upper, loc, scale = widen(lower, upper, loc, nan_unless_positive(scale))
    one = ops.ones_like(loc * scale)
    lower, upper, loc, scale = lower * one, upper * one, loc * one, scale * one
    below, above = lower <= -np.inf, upper >= np.inf
    # Over half_scale, here and below.
    low, half_scale = half_difference(ops.where(below, loc, lower), loc, scale)
    high, _ = half_difference(ops.where(above, loc, upper), loc, scale)
    bounded = ops.logical_not(below | above)
    if width is None:
        size = half_difference(upper, lower, scale)[0]
    else:
        size = half_difference(width, ops.zeros_like(width), scale)[0]
    size = ops.where(bounded, size, half_scale)
    both = bounded & (low <= 0) & (high >= 0)
    ratio = ops.stop_gradient(size / half_scale)
    distance = ops.stop_gradient(ops.abs(nearest_to_centre(low, high)) / half_scale)
    lost = ratio * (0.5 * ratio + distance) > _LOST
    single = ops.logical_xor(below, above) | (bounded & ops.logical_not(both) & lost)
    tail = log_Phi_of_ratio(
        ops.where(below | (high < 0), high, -low), half_scale, single
    )
    # A quotient that underflows: the density times the width.
    thin = bounded & ops.logical_not(single) & (ratio < _THIN)
    width = upper - lower if width is None else width * one
    width = ops.where(thin, larger(width, float(finfo(one.dtype).tiny)), one)
    density = normal_log_prob(
        ops.where(thin, lower, loc), loc, ops.where(thin, scale, one)
    )
    inner = bounded & ops.logical_not(single | thin)
    z_low = _cut_off(ops.where(inner, low, -half_scale), half_scale, both)
    z_high = _cut_off(ops.where(inner, high, half_scale), half_scale, both)
    nearest, log_mass = log_mass_scaled(
        z_low, z_high, _cut_off(ops.where(inner, size, half_scale), half_scale, both)
    )
    mass = log_mass - (0.5 * nearest) * nearest
    value = ops.where(single, tail, ops.where(inner, mass, ops.zeros_like(mass)))
    value = ops.where(thin, density + ops.log(width), value)
    # The whole line has the probability 1; a NaN stays one.
    unknown = (lower != lower) | (upper != upper) | (loc != loc) | (scale != scale)
    return ops.where(unknown, float("nan"), value)


def _cut_off(x: Tensor, scale: Tensor, wanted: Tensor) -> Tensor:
    """`x / scale`, where wanted cut off at 40 on both sides, without a slope there."""
    far = wanted & (ops.abs(x) >= _FAR * scale)
    z = divide(ops.where(far, ops.zeros_like(x), x), scale)
    return ops.where(far, _FAR * ops.stop_gradient(ops.sign(x)), z)


def log_Phi_of_ratio(x: Tensor, scale: Tensor, wanted: Tensor) -> Tensor:
    """`log Phi(x / scale)` where wanted, else 0; no quotient that overflows to inf."""
    # Phi is 1 from where the density underflows: no value and no slope.
    most = math.sqrt(-2.0 * math.log(float(finfo(x.dtype).tiny)))
    certain = x > most * scale
    x = ops.where(wanted & ops.logical_not(certain), x, ops.zeros_like(x))
    value = log_ndtr(divide(x, scale))
    return ops.where(certain, ops.zeros_like(value), value)


def nearest_to_centre(low: Tensor, high: Tensor) -> Tensor:
    """The point between the bounds that is nearest to the centre."""
    zero = ops.zeros_like(low)
    return ops.where(low > 0, low, ops.where(high < 0, high, zero))


def log_mass_scaled(
    low: Tensor, high: Tensor, width: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`nearest` and `log(Phi(high) - Phi(low)) + nearest^2 / 2`."""
    nearest = nearest_to_centre(low, high)
    width = high - low if width is None else width
    middle = 0.5 * low + 0.5 * high
    # A narrow interval: the difference of the tails has lost its digits, the
    # Taylor series of the integral has not.
    narrow = (width < 0.05) & (ops.abs(middle) * width < 0.05)
    one = ops.ones_like(low)
    w = ops.where(narrow, width, 0.01 * one)
    m = ops.where(narrow, middle, 0.0 * one)
    n = ops.where(narrow, nearest, 0.0 * one)
    # The square of m alone may overflow; m * w is small.
    mw, ww = ops.square(m * w), w * w
    series = (mw - ww) / 24.0 + (mw * mw - 6.0 * mw * ww + 3.0 * ww * ww) / 1920.0
    third = ((mw - 15.0 * ww) * mw + 45.0 * ww * ww) * mw - 15.0 * ww * ww * ww
    series = series + third / 322560.0
    narrow_value = (
        ops.log(w) + ops.log1p(series) - (0.5 * (m - n)) * (m + n) - HALF_LOG_TWO_PI
    )
    # Both sides of 0: one minus two tails.
    both = (low <= 0) & (high >= 0)
    b_low = ops.where(both, low, -one)
    b_high = ops.where(both, high, one)
    # Two arguments as one tensor: an operation costs more than its numbers.
    tails = ops.sum(Phi(ops.stack([b_low, -b_high])), axis=0)
    straddle = both & (tails < 0.9999)
    both_value = ops.log1p(-ops.where(straddle, tails, 0.5 * one))
    # One side: the tail at the nearer bound without that at the farther one.
    beyond = ops.logical_not(both | narrow)
    near_bound = ops.where(beyond, -ops.abs(nearest), -one)
    distance = ops.where(beyond, width, one)
    log_near, log_far = ops.unstack(
        log_ndtr_scaled(ops.stack([near_bound, near_bound - distance]))
    )
    ratio = log_far - log_near - distance * (0.5 * distance - near_bound)
    beyond_value = log_near + ops.log(-ops.expm1(smaller(ratio, -1e-6)))
    value = ops.where(both, both_value, beyond_value)
    return nearest, ops.where(narrow, narrow_value, value)
