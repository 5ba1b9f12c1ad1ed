"""Which dtype a computation runs in."""

from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import ops
from keras.backend import is_float_dtype
from keras.backend import standardize_dtype

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor


def at_least_float32(dtype: Any) -> str:
    """Name of the dtype to compute in: float64 stays, all else is float32.

    Args:
        dtype: A dtype or its name.

    Returns:
        `"float64"` or `"float32"`.

    Example:

    >>> at_least_float32("float16"), at_least_float32("float64")
    ('float32', 'float64')
    """
    return "float64" if standardize_dtype(dtype) == "float64" else "float32"


def as_loss(value: Tensor) -> Tensor:
    """A loss of a layer, in the dtype in which Keras adds up losses.

    That is the float type of Keras and not the dtype of the layer, and
    TensorFlow adds up one dtype only: a float64 layer in a model whose losses
    are float32 would stop the training.

    Args:
        value: Scalar tensor.

    Returns:
        Scalar tensor, float32 at the least.

    Example:

    >>> loss = as_loss(ops.ones((), "float64"))
    >>> keras.backend.standardize_dtype(loss.dtype)
    'float32'
    """
    return ops.cast(value, at_least_float32(keras.config.floatx()))


def widen(*tensors: Any) -> Any:
    """Converts tensors to their common dtype, float32 at the least.

    Python numbers follow the tensors beside them; integers become float32.

    Args:
        *tensors: Tensors, arrays or numbers.

    Returns:
        One tensor, or a list of tensors when several were given.

    Example:

    >>> x = widen(np.ones(2, "float16"))
    >>> keras.backend.standardize_dtype(x.dtype)
    'float32'
    """
    # Converted first: on JAX without x64, a NumPy float64 becomes float32 here.
    # A NumPy scalar is made an array: PyTorch would take it for a Python float.
    converted = [
        ops.convert_to_tensor(np.asarray(t) if isinstance(t, np.generic) else t)
        if hasattr(t, "dtype")
        else t
        for t in tensors
    ]
    dtypes = [standardize_dtype(t.dtype) for t in converted if hasattr(t, "dtype")]
    wide = "float64" if "float64" in dtypes else "float32"
    # A Python number is converted and not cast: a cast rounds it to float32.
    wider = [
        ops.cast(t, wide) if hasattr(t, "dtype") else ops.convert_to_tensor(t, wide)
        for t in converted
    ]
    return wider[0] if len(wider) == 1 else wider


# The functions of Keras turn float64 into float32 on JAX and PyTorch, and a
# Python number beside a float64 tensor is rounded to float32.


def larger(x: Tensor, bound: Tensor) -> Tensor:
    """`maximum(x, bound)` in the dtype of `x`; its gradient is that of `x` in a tie."""
    bound = ops.convert_to_tensor(bound, x.dtype)
    return ops.where(x < bound, bound, x)


def smaller(x: Tensor, bound: Tensor) -> Tensor:
    """`minimum(x, bound)` in the dtype of `x`; its gradient is that of `x` in a tie."""
    bound = ops.convert_to_tensor(bound, x.dtype)
    return ops.where(x > bound, bound, x)


def between(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """`clip(x, lower, upper)` in the dtype of `x`."""
    return smaller(larger(x, lower), upper)


def floor(x: Tensor) -> Tensor:
    """The largest whole number up to `x`, in the dtype of `x`."""
    whole = ops.trunc(x)
    return whole - ops.cast(x < whole, x.dtype)


def to_numpy(tensor: Tensor) -> Array:
    """A tensor as a float64 NumPy array, from any device and of any dtype."""
    return np.asarray(ops.convert_to_numpy(tensor), dtype="float64")


def finfo(dtype: Any) -> Any:
    """`numpy.finfo` that knows bfloat16 too."""
    return ml_dtypes.finfo(standardize_dtype(dtype))


def float_dtype_of(x: Tensor) -> str:
    """The float dtype in which a result about `x` is returned."""
    dtype = standardize_dtype(x.dtype) if hasattr(x, "dtype") else "float32"
    return dtype if is_float_dtype(dtype) else "float32"
