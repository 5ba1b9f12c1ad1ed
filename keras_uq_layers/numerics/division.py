"""Division by a scale that may be tiny."""

from keras import ops


def divide(x, scale):
    """`x / scale` whose gradient never forms `1 / scale**2`.

    The usual gradient, `-x / scale**2`, is `0 * inf = NaN` on some backends
    as soon as `scale**2` underflows (below 1e-19 in float32). Here the value
    is divided by a constant and the gradient flows through the factor
    `exp(log(s0) - log(scale))`, which is exactly 1: its derivative is
    `-1 / scale`, at every order.

    Args:
        x: Tensor of any shape.
        scale: Positive tensor, broadcast against `x`. Not positive: NaN.

    Returns:
        The quotient, of the broadcast shape.

    Example:

    >>> float(divide(ops.convert_to_tensor(1e-30), 1e-30))
    1.0
    """
    log_scale = ops.log(scale)
    one = ops.exp(ops.stop_gradient(log_scale) - log_scale)
    return x / ops.stop_gradient(scale) * one


def half_difference(y, loc, scale):
    """`(y - loc) / 2` and `scale / 2`: their quotient cannot overflow early.

    `y - loc` overflows for arguments of opposite sign near the end of the
    dtype although `(y - loc) / scale` may be small.
    """
    return 0.5 * y - 0.5 * loc, 0.5 * scale
