"""Gradients on any backend: what the checks need of automatic differentiation."""

import keras
import numpy as np
from keras import ops


def value_and_gradients(function, tensors):
    """A scalar function and its gradients, as NumPy.

    Args:
        function: From a list of tensors to a scalar tensor.
        tensors: List of float tensors.

    Returns:
        The value, and a list with one array each; None where the value does
        not depend on the tensor (on JAX such a gradient is 0).
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            value = function(tensors)
        found = tape.gradient(value, tensors)
        found = [g if g is None else tf.convert_to_tensor(g) for g in found]
    elif backend == "jax":
        import jax

        value, found = jax.value_and_grad(function)(tensors)
    else:
        import torch

        tensors = [t.detach().clone().requires_grad_() for t in tensors]
        with torch.enable_grad():
            value = function(tensors)
        if not value.requires_grad:
            return to_numpy(value), [None] * len(tensors)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
    return to_numpy(value), [None if g is None else to_numpy(g) for g in found]


def to_numpy(tensor):
    """A NumPy array; half precision becomes float32."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype in ("float16", "bfloat16"):
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor))
