"""Parameterizations: how two features become a location and a scale."""

import math
from collections.abc import Callable

from keras import ops

from keras_uq_layers._typing import Tensor

# softplus(_ONE) is 1.
_ONE = math.log(math.e - 1.0)
# From here on `s * s + 4` is `s * s` in every dtype. Far above, it overflows.
_LARGE = 1e9


def _scale(location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """`loc = l`, `ratio = softplus(s + c)`"""
    return location, ops.softplus(spread + _ONE)


def _signal_to_noise(location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """`loc = ratio * l`, `ratio = p^(-1/2)`, `p = (s + sqrt(s^2 + 4)) / 2`

    The precision p is 1 at 0, about `s` where `s` is large, and about `-1 / s` where
    it is very negative: its gradient lives on both sides.
    """
    precise = spread > 0.0
    size = ops.where(precise, spread, -spread)
    far = size > _LARGE
    near = ops.where(far, ops.zeros_like(size), size)
    root = ops.where(far, size, ops.sqrt(near * near + 4.0))
    # The larger one of p and 1 / p is a sum. The other one would be a difference.
    larger = 0.5 * size + 0.5 * root
    ratio = ops.where(precise, ops.rsqrt(larger), ops.sqrt(larger))
    return location * ratio, ratio


PARAMETERIZATIONS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "signal_to_noise": _signal_to_noise,
    "scale": _scale,
}
"""From the features of location and spread to `loc`, and to the scale in units of
the initial one. Features of 0 give 0 and 1. The default comes first."""
