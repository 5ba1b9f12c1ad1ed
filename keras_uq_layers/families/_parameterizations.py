"""Parameterizations: how two features become a location and a scale."""

import math
from collections.abc import Callable

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import finfo

LARGEST_RATIO = 1e6
"""Largest scale of a parameterization with a precision, in initial scales."""

_SMALLEST_PRECISION = LARGEST_RATIO**-2
# softplus(_ONE) is 1.
_ONE = math.log(math.e - 1.0)
# Below, two terms of the series of log(softplus(s)) are exact.
_TAIL = -20.0


def _scale(location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """`loc = l`, `ratio = softplus(s + c)`"""
    return location, ops.softplus(spread + _ONE)


def _precision(location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """`loc = l`, `ratio = softplus(s + c)^(-1/2)`"""
    return location, ops.exp(-0.5 * _log_precision(spread))


def _natural(location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """`loc = l / softplus(s + c)`, `ratio = softplus(s + c)^(-1/2)`"""
    ratio = ops.exp(-0.5 * _log_precision(spread))
    # Where the location may overflow, its gradient may not be 0 times infinity.
    huge = ops.abs(location) > 0.1 * float(finfo(location.dtype).max) / LARGEST_RATIO**2
    factor = ops.where(huge, ops.stop_gradient(ratio), ratio)
    # Not the square, which underflows before the product does.
    return location * factor * factor, ratio


def _log_precision(spread: Tensor) -> Tensor:
    """`log(softplus(s + c) + smallest)`, with a gradient that lives in the tail.

    A logarithm, because the gradient of a quotient has the square of a precision
    in its denominator, which underflows.
    """
    raw = spread + _ONE
    tail = raw < _TAIL
    edge = ops.full_like(raw, _TAIL)
    near = ops.softplus(ops.where(tail, edge, raw)) + _SMALLEST_PRECISION
    far = ops.where(tail, raw, edge)
    log_softplus = far - 0.5 * ops.exp(far)
    log_smallest = math.log(_SMALLEST_PRECISION)
    log_far = log_smallest + ops.softplus(log_softplus - log_smallest)
    return ops.where(tail, log_far, ops.log(near))


PARAMETERIZATIONS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "scale": _scale,
    "precision": _precision,
    "natural": _natural,
}
"""From the features of location and spread to `loc`, and to the scale in units of
the initial one. Features of 0 give 0 and 1. The default comes first."""
