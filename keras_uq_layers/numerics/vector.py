"""One vector in place of several tensors."""

import itertools
import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_uq_layers._typing import Tensor


def unpack(vector: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The tensors of these shapes that a vector holds one after the other.

    One operation splits it, and no slices: the gradient of the former is one
    concatenation, that of each slice would be as long as the whole vector.

    Args:
        vector: Tensor `(n,)`.
        shapes: The shapes, with `n` entries in all.

    Returns:
        List of tensors, one for each shape.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if keras.backend.backend() == "torch":
        # `ops.split` computes the sizes with tensors there. For a small layer that
        # takes longer than its matrix product.
        parts = vector.split(sizes)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    *ends, _ = itertools.accumulate(sizes)
    parts = ops.split(vector, ends) if ends else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
