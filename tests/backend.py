"""Gradients on whatever backend is in use, and NumPy in and out."""

import keras
import numpy as np
import pytest
from keras import ops


def to_numpy(tensor):
    """A NumPy array; half precision becomes float32."""
    if keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16"):
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor))


needs_xla = pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="PyTorch has no XLA: `jit_compile` would be `torch.compile` there",
)


def steps_per_execution(steps):
    """The argument of `compile`, which Keras has not on PyTorch."""
    return 1 if keras.backend.backend() == "torch" else steps


def value_and_gradients(function, *arrays, dtype=None):
    """`function(*tensors)` and the gradients of its sum, all as NumPy.

    Args:
        function: Takes and returns tensors.
        *arrays: Float arrays.
        dtype: Dtype of the tensors; None keeps those of the arrays.

    Returns:
        The value, and a tuple with a gradient for each array.
    """
    tensors = [ops.convert_to_tensor(a, dtype=dtype) for a in arrays]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
            total = ops.sum(ops.cast(value, "float64"))
        gradients = tape.gradient(total, tensors)
    elif backend == "jax":
        import jax

        # Once for both: a loop compiles at each of its calls.
        def total(*tensors):
            value = function(*tensors)
            return ops.sum(value), value

        every = tuple(range(len(tensors)))
        with_gradients = jax.value_and_grad(total, argnums=every, has_aux=True)
        (_, value), gradients = with_gradients(*tensors)
    else:
        for tensor in tensors:
            tensor.requires_grad_()
        value = function(*tensors)
        ops.sum(value).backward()
        gradients = [tensor.grad for tensor in tensors]
    zeros = [np.zeros(np.shape(a)) for a in arrays]
    return to_numpy(value), tuple(
        z if g is None else to_numpy(g) for g, z in zip(gradients, zeros, strict=True)
    )


def has_float64():
    """Whether the backend has float64: JAX does only if told so."""
    wide = ops.convert_to_tensor(np.zeros(1, "float64"))
    return keras.backend.standardize_dtype(wide.dtype) == "float64"


needs_float64 = pytest.mark.skipif(
    not has_float64(), reason="JAX has no float64 unless told so"
)
