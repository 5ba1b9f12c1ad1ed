"""Gradients on any backend."""

from collections.abc import Callable
from collections.abc import Sequence

import keras

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import to_numpy


def value_and_gradients(
    function: Callable[[Sequence[Tensor]], Tensor], tensors: Sequence[Tensor]
) -> tuple[Array, list[Array | None]]:
    """A scalar function and its gradients.

    Args:
        function: From a list of tensors to a scalar tensor.
        tensors: Float tensors.

    Returns:
        The value, and a list with one array for each tensor: None where the
        value does not depend on it. On JAX such a gradient is 0.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            value = function(tensors)
        found = tape.gradient(value, tensors)
        # A tensor that is gathered from has a sparse gradient.
        found = [g if g is None else tf.convert_to_tensor(g) for g in found]
    elif backend == "jax":
        import jax

        value, found = jax.value_and_grad(function)(tensors)
    else:
        import torch

        tensors = [t.detach().clone().requires_grad_() for t in tensors]
        with torch.enable_grad():
            value = function(tensors)
        found = [None] * len(tensors)
        if value.requires_grad:
            found = torch.autograd.grad(value, tensors, allow_unused=True)
    return to_numpy(value), [None if g is None else to_numpy(g) for g in found]
