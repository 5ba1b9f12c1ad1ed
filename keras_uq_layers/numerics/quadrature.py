"""Nodes and weights of numerical integrals."""

import functools

import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor


def gauss_legendre(count: int, dtype: str) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the Gauss-Legendre rule on `[0, 1]`.

    Args:
        count: Number of nodes.
        dtype: Dtype of both tensors.

    Returns:
        Nodes and weights, tensors of shape `(count,)`. The weights sum to 1.
    """
    nodes, weights = _rule(count)
    return (
        ops.convert_to_tensor(0.5 * (nodes + 1.0), dtype),
        ops.convert_to_tensor(0.5 * weights, dtype),
    )


# Found on first use and not on import: it takes about a millisecond.
@functools.cache
def _rule(count: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(count)
