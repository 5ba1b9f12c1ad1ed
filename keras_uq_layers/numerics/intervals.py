"""The probability of an interval, in logarithms, without a cancellation."""

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide


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
    # exp(-100) is lost beside 1, also in float64.
    lost, small = x >= 100.0 * scale, x <= 0.01 * scale
    near = ops.where(small, x, 0.01 * scale)
    z = divide(near, scale)
    series = -0.5 * z + z * z * (1.0 / 24.0 - z * z * (1.0 / 2880.0))
    log_z = ops.log(near) - ops.log(scale)
    z = divide(ops.where(small | lost, scale, x), scale)
    value = ops.where(small, log_z + series, ops.log(-ops.expm1(-z)))
    return ops.where(lost, ops.zeros_like(value), value)
