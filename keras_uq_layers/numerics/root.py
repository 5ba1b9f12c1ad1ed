"""Roots of monotone functions, by bisection of the bits of a number."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import floor

Bounds: TypeAlias = tuple[Tensor, Tensor]


def monotone_root(
    function: Callable[[Tensor], Tensor],
    level: Tensor,
    lower: float = -np.inf,
    upper: float = np.inf,
    discrete: bool = False,
) -> Tensor:
    """The smallest `y` with `function(y) >= level`, without a gradient.

    First the sign of `y`, then its exponent, then its mantissa is bisected:
    exact to about the last bit for values of any magnitude, in a number of
    steps that depends on the dtype alone (33 in float32, 65 in float64).

    Args:
        function: Takes a tensor of the shape of `level` and returns one;
            non-decreasing in each entry.
        level: Tensor of values of the function, float32 or float64.
        lower: Lower bound of `y`, also the result where `level <= 0`.
        upper: Upper bound, also the result where `level >= 1`.
        discrete: Whether `y` is a whole number, from 0 on.

    Returns:
        Tensor of the shape of `level`; NaN where `level` is NaN or outside
        `[0, 1]`.

    Example:

    >>> level = ops.convert_to_tensor([0.25])
    >>> round(float(monotone_root(lambda y: y * y, level, 0.0, 1.0)[0]), 4)
    0.5
    """
    level = ops.stop_gradient(level)
    info = finfo(level.dtype)
    zeros = ops.zeros_like(level)

    def frozen(y: Tensor) -> Tensor:
        return ops.stop_gradient(function(y))

    safe = ops.where((level > 0) & (level < 1), level, ops.full_like(level, 0.5))

    # Reflect, so that the magnitude is searched on the positive side: there
    # `holds(m)` turns from False to True at the magnitude of the root.
    if lower >= 0:
        origin, sign = float(lower), ops.ones_like(level)
    elif upper <= 0:
        origin, sign = float(upper), -ops.ones_like(level)
    else:
        origin = 0.0
        sign = ops.where(frozen(zeros) >= safe, -ops.ones_like(level), zeros + 1.0)

    def holds(magnitude: Tensor) -> Tensor:
        y = origin + sign * magnitude
        y = between(y, max(lower, float(info.min)), min(upper, float(info.max)))
        reached = frozen(y) >= safe
        return ops.where(sign > 0, reached, ops.logical_not(reached))

    # The exponent: the smallest e with `holds(2**e)`.
    low = zeros + (-1.0 if discrete else float(np.log2(float(info.tiny))))
    high = zeros + float(np.floor(np.log2(float(info.max))))
    steps = int(np.ceil(np.log2(2.0 * np.log2(float(info.max)))))

    def bisect_exponent(_: Tensor, bounds: Bounds) -> Bounds:
        low, high = bounds
        middle = floor(0.5 * (low + high))
        good = holds(_power_of_two(middle))
        return ops.where(good, low, middle), ops.where(good, middle, high)

    low, high = ops.fori_loop(0, steps, bisect_exponent, (low, high))
    low, high = _power_of_two(low), _power_of_two(high)
    low = ops.where(holds(low), zeros, low)

    def bisect_mantissa(_: Tensor, bounds: Bounds) -> Bounds:
        low, high = bounds
        middle = 0.5 * low + 0.5 * high
        if discrete:
            middle = floor(middle)
        good = holds(middle)
        return ops.where(good, low, middle), ops.where(good, middle, high)

    low, high = ops.fori_loop(0, info.nmant + 1, bisect_mantissa, (low, high))
    if discrete:
        # The search runs over powers of two, which never reach 0: test 0 by itself.
        root = ops.where(frozen(zeros) >= safe, zeros, high)
    else:
        root = origin + sign * high
    root = between(root, lower, upper)
    root = ops.where(level <= 0, ops.full_like(root, lower), root)
    root = ops.where(level >= 1, ops.full_like(root, upper), root)
    nan = ops.full_like(root, np.nan)
    inside = (level >= 0) & (level <= 1)
    return ops.stop_gradient(ops.where(inside, root, nan))


def _power_of_two(exponent: Tensor) -> Tensor:
    # Not exact on every backend; a bracket need not be, but a whole number is.
    # Not `ops.exp2`, which in a graph of TensorFlow knows float32 alone.
    value = ops.power(ops.full_like(exponent, 2.0), exponent)
    return ops.where(value >= 1.0, ops.round(value), value)
