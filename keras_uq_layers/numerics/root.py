"""Roots of monotone functions, by bisection of the bits of a number."""

import math
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

    First the sign of `y`, then its magnitude is bisected, by geometric means and
    then by arithmetic ones: exact to about the last bit for values of any
    magnitude, in a number of steps that depends on the dtype alone (35 in
    float32, 67 in float64). A graph holds `function` once for the sign and once
    for all of the steps.

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

    # From the smallest normal number, or what is nearest below 1, to the largest
    # one: so many geometric means leave a bracket within a factor of 2.
    smallest = 0.5 if discrete else float(info.tiny)
    largest = float(info.max)
    geometric = math.ceil(math.log2(math.log2(largest) - math.log2(smallest)))

    def bisect(step: Tensor, bounds: Bounds) -> Bounds:
        low, high = bounds
        by_ratio = ops.sqrt(low) * ops.sqrt(high)
        middle = ops.where(step < geometric, by_ratio, 0.5 * (low + high))
        # No mean reaches the smallest number: it is tried by itself.
        middle = ops.where(step == geometric, low, middle)
        if discrete:
            middle = floor(middle)
        good = holds(middle)
        return ops.where(good, low, middle), ops.where(good, middle, high)

    bounds = zeros + smallest, zeros + 0.5 * largest
    steps = geometric + info.nmant + 3
    root = origin + sign * ops.fori_loop(0, steps, bisect, bounds)[1]
    root = between(root, lower, upper)
    root = ops.where(level <= 0, ops.full_like(root, lower), root)
    root = ops.where(level >= 1, ops.full_like(root, upper), root)
    nan = ops.full_like(root, np.nan)
    inside = (level >= 0) & (level <= 1)
    return ops.stop_gradient(ops.where(inside, root, nan))
