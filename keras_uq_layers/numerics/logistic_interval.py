"""The probability that a logistic gives to an interval, in logarithms."""

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.intervals import log_rise

FAR = 750.0
"""Scales from the centre at which the tail, `exp(-750)`, is 0 even in float64."""


def logistic_log_interval(
    lower: Tensor,
    upper: Tensor,
    loc: Tensor,
    scale: Tensor,
    width: Tensor | None = None,
) -> Tensor:
    """Log probability that a logistic number lies between two ends.

    ```
    log F(upper) + log(1 - F(lower)) + log(1 - exp(-(upper - lower) / scale))
    ```

    The exact difference of the two tails, in which nothing cancels.

    Args:
        lower: Tensor of lower ends, also `-inf`.
        upper: Tensor of upper ends, above the lower ones, also `inf`.
        loc: Tensor of means.
        scale: Tensor of scales, positive.
        width: `upper - lower`, where it is known better than from the difference.
            It is not read where an end is infinite.

    Returns:
        Tensor of the broadcast shape.
    """
    below, above = lower <= -np.inf, upper >= np.inf
    bounded = ops.logical_not(below | above)
    low, half_scale = half_difference(ops.where(below, loc, lower), loc, scale)
    high, _ = half_difference(ops.where(above, loc, upper), loc, scale)
    if width is None:
        size, _ = half_difference(upper, lower, scale)
    else:
        size, _ = half_difference(width, ops.zeros_like(width), scale)
    rise = log_rise(ops.where(bounded, size, half_scale), half_scale)
    zero = ops.zeros_like(rise)
    under = ops.where(above, zero, _log_sigmoid(high, half_scale))
    over = ops.where(below, zero, _log_sigmoid(-low, half_scale))
    return under + over + ops.where(bounded, rise, zero)


def _log_sigmoid(x: Tensor, scale: Tensor) -> Tensor:
    """`log(1 / (1 + exp(-x / scale)))`"""
    left, far = x < 0, ops.abs(x) >= FAR * scale
    zero = ops.zeros_like(x)
    size = divide(ops.where(far, zero, ops.where(left, -x, x)), scale)
    rest = ops.where(far, zero, ops.log1p(ops.exp(-size)))
    return divide(ops.where(left, x, zero), scale) - rest
