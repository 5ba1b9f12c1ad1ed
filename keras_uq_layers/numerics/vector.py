"""One vector in place of several tensors."""

import itertools
import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_uq_layers._typing import Tensor


def unpack(vector: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The tensors of these shapes that a vector holds one after the other.

    Each backend takes them out in the way that is fast there, forward and backward.

    Args:
        vector: Tensor `(n,)`.
        shapes: The shapes, with `n` entries in all.

    Returns:
        List of tensors, one for each shape.
    """
    sizes = [math.prod(shape) for shape in shapes]
    backend = keras.backend.backend()
    if backend == "torch":
        # The operations of Keras take longer than the product of a small layer: its
        # split computes the sizes with tensors.
        pairs = zip(vector.split(sizes), shapes, strict=True)
        return [part.reshape(shape) for part, shape in pairs]
    ends = list(itertools.accumulate(sizes))
    if backend == "jax":
        # The gradient of a split is a concatenation, for which XLA writes a slow loop.
        # Slices take half to three quarters of its time.
        parts = [vector[i - size : i] for i, size in zip(ends, sizes, strict=True)]
    else:
        # The gradient of a slice is as long as the whole vector, and so is their sum.
        # That of a split is one concatenation.
        parts = ops.split(vector, ends[:-1]) if len(sizes) > 1 else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
