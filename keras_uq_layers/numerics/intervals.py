"""The probability of an interval, in logarithms, without a cancellation."""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.quadrature import gauss_legendre

# Nodes of the quadrature.
_NODES = 20
# Of two tails with a smaller ratio, the difference of the logarithms is integrated.
_NARROW = 0.1
# exp(-100) is lost beside 1, also in float64.
_LOST = 100.0
# So many counts are summed.
_FEW = 32


def log_interval(
    lower: Tensor,
    upper: Tensor,
    inside: Tensor,
    log_tails: Callable[[Tensor], tuple[Tensor, Tensor]],
    log_mass: Callable[[Tensor, Tensor, Tensor], Tensor],
    narrow: Tensor | None = None,
) -> Tensor:
    """`log(F(upper) - F(lower))` from the logarithms of both tails.

    ```
    log S(lower) + log(1 - S(upper) / S(lower))   in the upper tail
    log F(upper) + log(1 - F(lower) / F(upper))   in the lower tail
    ```

    Where the two tails are close to one another, the density is integrated.

    Args:
        lower: Tensor of lower ends inside of the support, or `-inf`.
        upper: Tensor of upper ends inside of the support, or `inf`.
        inside: Tensor of numbers inside of the support.
        log_tails: Function of a tensor of numbers: `log F` and `log S = log(1 - F)`.
        log_mass: Function of two ends, and of a boolean tensor that says where
            the result is wanted: the logarithm of the integral of the density.
        narrow: Boolean tensor, where `log_mass` is to be used. None: where the
            difference of the tails would lose digits.

    Returns:
        Tensor of the broadcast shape.
    """
    below, above = lower <= -np.inf, upper >= np.inf
    bounded = ops.logical_not(below | above)
    # An open end is not used. Its place is taken by the other one, at which the
    # slopes are those that are wanted.
    first = ops.where(below, ops.where(above, inside, upper), lower)
    last = ops.where(above, ops.where(below, inside, lower), upper)
    (under_first, over_first), (under_last, over_last) = map(log_tails, (first, last))
    left = under_last < over_first
    greater = ops.where(left, under_last, over_first)
    lesser = ops.where(left, under_first, over_last)
    gap = ops.stop_gradient(greater - lesser)
    if narrow is None:
        noise = 16.0 * float(finfo(greater.dtype).eps) * ops.abs(greater)
        narrow = gap < ops.stop_gradient(larger(noise, _NARROW))
    narrow = bounded & narrow
    lost = gap > _LOST
    apart = bounded & ops.logical_not(narrow | lost) & ops.isfinite(gap) & (gap > 0)
    one = ops.ones_like(greater)
    ratio = ops.where(apart, lesser - greater, -one)
    wide = ops.where(apart, log1m_exp(ratio), ops.zeros_like(one))
    end = ops.where(bounded, greater, ops.where(below, under_last, over_first))
    value = ops.where(narrow, ops.zeros_like(one), end + wide)
    value = ops.where(narrow, log_mass(first, last, narrow), value)
    return ops.where(below & above, ops.zeros_like(value), value)


def log_integral(log_density: Callable[[Tensor], Tensor], length: Tensor) -> Tensor:
    """`log(integral of exp(log_density(t)) for t from 0 to length)`

    By Gauss-Legendre quadrature, for a density that varies little.

    Args:
        log_density: Function of a tensor `(..., nodes)` of the same shape.
        length: Positive tensor `(...)`.

    Returns:
        Tensor of the shape of `length`.
    """
    nodes, weights = gauss_legendre(_NODES, length.dtype)
    return log_sum(log_density(length[..., None] * nodes), weights) + ops.log(length)


def log_sum(terms: Tensor, weights: Tensor) -> Tensor:
    """`log(sum of weights * exp(terms))` over the last axis."""
    peak = ops.max(terms, axis=-1)
    # Where all terms are -inf, the slope of log(0) would meet slopes of 0.
    lost = ops.isinf(peak)
    safe = ops.where(lost[..., None], ops.zeros_like(terms), terms)
    top = ops.stop_gradient(ops.where(lost, ops.zeros_like(peak), peak))
    total = ops.sum(weights * ops.exp(safe - top[..., None]), axis=-1)
    return ops.where(lost, peak, ops.log(total) + top)


def log1m_exp(x: Tensor) -> Tensor:
    """`log(1 - exp(x))` of negative numbers, accurate at both ends.

    Args:
        x: Tensor, not positive; 0 counts as the smallest number below.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        Maechler, 2012, "Accurately Computing log(1 - exp(-|a|))", the vignette
        of the R package Rmpfr.
    """
    x = smaller(x, -float(finfo(x.dtype).tiny))
    close = x > -0.7
    one = ops.ones_like(x)
    near = ops.log(-ops.expm1(ops.where(close, x, -one)))
    far = ops.log1p(-ops.exp(ops.where(close, -one, x)))
    return ops.where(close, near, far)


def log_ratio(first: Tensor, last: Tensor, wanted: Tensor) -> Tensor:
    """`log(last / first)` of positive numbers, accurate where they are close.

    Args:
        first: Positive tensor.
        last: Positive tensor, above `first` where wanted.
        wanted: Boolean tensor.

    Returns:
        Tensor of the broadcast shape; 1 where it is not wanted.
    """
    one = ops.ones_like(first * last)
    close = wanted & (last < 2.0 * first)
    excess = divide(ops.where(close, last - first, one), ops.where(close, first, one))
    apart = wanted & ops.logical_not(close)
    far = ops.log(ops.where(apart, last, one)) - ops.log(ops.where(apart, first, one))
    return ops.where(close, ops.log1p(excess), ops.where(apart, far, one))


def log_rise(x: Tensor, scale: Tensor) -> Tensor:
    """`log(1 - exp(-x / scale))`, also where the quotient would underflow to 0.

    Args:
        x: Positive tensor.
        scale: Positive tensor.

    Returns:
        Tensor of the broadcast shape.
    """
    one = ops.ones_like(x * scale)
    x, scale = x * one, scale * one
    lost, small = x >= _LOST * scale, x <= 0.01 * scale
    near = ops.where(small, x, 0.01 * scale)
    z = divide(near, scale)
    series = -0.5 * z + z * z * (1.0 / 24.0 - z * z * (1.0 / 2880.0))
    log_z = ops.log(near) - ops.log(scale)
    z = divide(ops.where(small | lost, scale, x), scale)
    value = ops.where(small, log_z + series, ops.log(-ops.expm1(-z)))
    return ops.where(lost, ops.zeros_like(value), value)


def log_interval_of_counts(
    lower: Tensor,
    upper: Tensor,
    log_tails: Callable[[Tensor], tuple[Tensor, Tensor]],
    log_prob: Callable[[Tensor], Tensor],
) -> Tensor:
    """`log P(lower <= Y <= upper)` of counts: few are summed, else as `log_interval`.

    Args:
        lower: Tensor of lower ends.
        upper: Tensor of upper ends.
        log_tails: Function of a tensor of counts: `log F` and `log(1 - F)`.
        log_prob: Function of a tensor of counts `(..., n)`.

    Returns:
        Tensor of the broadcast shape.
    """
    # The last count before the interval, and the last one in it.
    open_end = lower <= 0
    before = ops.where(open_end, -np.inf, ops.ceil(lower) - 1.0)
    until = ops.floor(upper)
    first = ops.where(open_end, ops.zeros_like(lower), before + 1.0)
    few = until - first < _FEW
    steps = ops.arange(_FEW, dtype=lower.dtype)

    def log_mass(_: Tensor, __: Tensor, wanted: Tensor) -> Tensor:
        start = ops.where(wanted, first, ops.zeros_like(first))[..., None]
        end = ops.where(wanted, until, ops.zeros_like(until))[..., None]
        counted = start + steps <= end
        # The others have the probability of the first, and no weight.
        counts = ops.where(counted, start + steps, start)
        return log_sum(log_prob(counts), ops.cast(counted, lower.dtype))

    inside = ops.zeros_like(lower)
    return log_interval(before, until, inside, log_tails, log_mass, few)
