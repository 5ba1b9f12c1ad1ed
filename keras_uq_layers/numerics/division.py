"""Division by a scale that may be tiny, or no scale at all."""

import keras
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import finfo


def divide(x: Tensor, scale: Tensor) -> Tensor:
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
    return divide_by_logs(x, scale)


def divide_by_logs(x: Tensor, scale: Tensor) -> Tensor:
    """`x / scale` whose gradient is never 0 times an infinite number.

    A quotient that is discarded afterwards gets a gradient of 0 from above. Plain
    division multiplies it by `x / scale**2`, which may be infinite: NaN. Here the
    gradient meets the finite quotient first, and only then `1 / scale`.
    """
    log_scale = ops.log(scale)
    one = ops.exp(ops.stop_gradient(log_scale) - log_scale)
    return x / ops.stop_gradient(scale) * one


def half_difference(y: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """`(y - loc) / 2` and `scale / 2`: their quotient cannot overflow early.

    `y - loc` overflows for arguments of opposite sign near the end of the
    dtype although `(y - loc) / scale` may be small. If halving `scale` would
    underflow, neither it nor the difference is halved.
    """
    smallest = 4.0 * float(finfo(scale.dtype).tiny)
    half = ops.where(scale < smallest, ops.ones_like(scale), ops.full_like(scale, 0.5))
    return half * y - half * loc, half * scale


def nan_unless_positive(scale: Tensor) -> Tensor:
    """The scale, or NaN where it is none, so that an error cannot hide."""
    # NaN must be a Python constant: tf2onnx turns `where(c, a, b)` into
    # `c * a + (1 - c) * b`, where a NaN tensor would spread.
    return ops.where(scale > 0, scale, float("nan"))
