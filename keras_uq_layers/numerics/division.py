"""Division by a scale that may be tiny, or no scale at all."""

import keras
from keras import ops

from keras_uq_layers.numerics.dtypes import finfo


def divide(x, scale):
    """`x / scale` with a gradient that does not form `1 / scale**2`.

    The derivative of a quotient is `-(x / scale) / scale` on TensorFlow and
    PyTorch. JAX computes `-x * scale**-2`, which is `0 * inf = NaN` as soon as
    `scale**2` underflows (below 1e-19 in float32). There the value is divided
    by a constant, and the gradient flows through `exp(log(s0) - log(scale))`,
    which is exactly 1: its derivative is `-1 / scale`, at every order. The
    gradient is then inf as soon as its product with the quotient overflows.

    Args:
        x: Tensor of any shape.
        scale: Positive tensor, broadcast against `x`.

    Returns:
        The quotient, of the broadcast shape.

    Example:

    >>> float(divide(ops.convert_to_tensor(1e-30), 1e-30))
    1.0
    """
    if keras.backend.backend() != "jax":
        return x / scale
    log_scale = ops.log(scale)
    one = ops.exp(ops.stop_gradient(log_scale) - log_scale)
    return x / ops.stop_gradient(scale) * one


def half_difference(y, loc, scale):
    """`(y - loc) / 2` and `scale / 2`: their quotient cannot overflow early.

    `y - loc` overflows for arguments of opposite sign near the end of the
    dtype although `(y - loc) / scale` may be small. A scale that has no half,
    near the other end, is left whole, and the difference with it.
    """
    smallest = 4.0 * float(finfo(scale.dtype).tiny)
    half = ops.where(scale < smallest, ops.ones_like(scale), ops.full_like(scale, 0.5))
    return half * y - half * loc, half * scale


def nan_unless_positive(scale):
    """The scale, or NaN where it is none, so that an error cannot hide."""
    # A constant: of two tensors the converter to ONNX makes a sum with a mask, in
    # which NaN wins on both sides.
    return ops.where(scale > 0, scale, float("nan"))
