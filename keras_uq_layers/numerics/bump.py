"""Bump functions: smooth, with compact support."""

import math

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import float_dtype_of
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen


def bump(x: Tensor, sigma: Tensor) -> Tensor:
    """The infinitely differentiable bump of half-width `sigma`.

    ```
    bump(x, sigma) = exp(-sigma^2 / (sigma^2 - x^2))   where |x| < sigma
                   = 0                                 elsewhere
    ```

    The height is `exp(-1)` at 0. Where the exact value is below the smallest
    normal number of the dtype, value and gradient are 0.

    Args:
        x: Tensor, in the unit of `sigma`.
        sigma: Half-width of the support, broadcast against `x`. Where it is
            not positive, value and gradient are 0.

    Returns:
        Tensor of the broadcast shape, in the dtype of `x`.

    Example:

    >>> y = bump(ops.convert_to_tensor([0.0, 1.0, 2.0, 3.0]), 2.0)
    >>> [round(float(v), 4) for v in y]
    [0.3679, 0.2636, 0.0, 0.0]

    Reference:
        Lee, 2012, "Introduction to Smooth Manifolds", 2nd ed., lemma 2.22.
    """
    dtype = float_dtype_of(x)
    x, sigma = widen(x, sigma)
    return ops.cast(_bump(x, sigma, _reach(x) * sigma), dtype)


def bump_threshold(x: Tensor, sigma: Tensor) -> Tensor:
    """The bump of half-width `sqrt(sigma)`, cut off at `|x| = sigma`.

    ```
    bump_threshold(x, sigma) = exp(-sigma / (sigma - x^2))
                                   where |x| < min(sigma, sqrt(sigma))
                             = 0   elsewhere
    ```

    It equals `bump` at `sigma = 1`, and jumps at the edge below it.

    Args:
        x: Tensor.
        sigma: Threshold, broadcast against `x`. Where it is not positive,
            value and gradient are 0.

    Returns:
        Tensor of the broadcast shape, in the dtype of `x`.

    Example:

    >>> y = bump_threshold(ops.convert_to_tensor([0.0, 1.0, 1.9]), 4.0)
    >>> [round(float(v), 4) for v in y]
    [0.3679, 0.2636, 0.0]
    """
    dtype = float_dtype_of(x)
    x, sigma = widen(x, sigma)
    half_width = ops.sqrt(_positive_or_one(sigma))
    edge = smaller(_reach(x) * half_width, sigma)
    return ops.cast(_bump(x, half_width, edge), dtype)


def _reach(x: Tensor) -> float:
    """The `|u|` at which `exp(-1 / (1 - u^2))` reaches the smallest normal."""
    return math.sqrt(1.0 + 1.0 / math.log(float(finfo(x.dtype).tiny)))


def _positive_or_one(sigma: Tensor) -> Tensor:
    # `sigma <= 0` and not `sigma > 0`: a NaN must stay a NaN.
    return ops.where(sigma <= 0, ops.ones_like(sigma), sigma)


def _bump(x: Tensor, half_width: Tensor, edge: Tensor) -> Tensor:
    # The double-where: the argument is made safe before the formula, so that
    # no infinite gradient of the branch not taken can reach `x` or `sigma`.
    # `>=` is False for NaN: a NaN takes the formula and comes out as NaN.
    outside = ops.abs(x) >= edge
    u = divide(ops.where(outside, ops.zeros_like(x), x), _positive_or_one(half_width))
    # The value is (1 - u)(1 + u), exact near the edge; the gradient is that of
    # 1 - u^2, exact near 0, where the product rule would cancel.
    square = u * u
    t = ops.stop_gradient((1.0 - u) * (1.0 + u)) + (ops.stop_gradient(square) - square)
    value = ops.exp(-1.0 / t)
    return ops.where(outside, ops.zeros_like(value), value)
