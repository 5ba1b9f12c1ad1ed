"""The regularised incomplete beta function, with gradients on any backend."""

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import betainc_value
from keras_uq_layers.numerics.special import has_betainc

# Pairs of steps of the continued fraction.
_PAIRS = 64
# With both parameters above this, the fraction converges slowly near the mean,
# and the integrand is so smooth that a quadrature is exact.
_LARGE = 500.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
# The integral is cut off where the integrand has fallen by exp(-reach).
_REACH = 45.0


def betainc(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Regularised incomplete beta function, with gradients for all arguments.

    ```
    betainc(a, b, x) = integral from 0 to x of t^(a-1) (1-t)^(b-1) dt / B(a, b)
    ```

    A continued fraction of fixed depth in `keras.ops`, or, where both `a` and
    `b` are so large that it would have to be deeper, a quadrature: the backends
    either lack this function (PyTorch) or its gradients (TensorFlow, JAX).

    Args:
        a: Positive tensor.
        b: Positive tensor.
        x: Tensor in `[0, 1]`.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(betainc(2.0, 3.0, 0.5)), 4)
    0.6875

    Reference:
        Press et al., 2007, "Numerical Recipes", 3rd ed., section 6.4.
    """
    a, b, x = widen(a, b, x)
    return betainc_tails(a, b, x, 1.0 - x)[0]


def betainc_tails(
    a: Tensor, b: Tensor, x: Tensor, complement: Tensor, differentiable: bool = True
) -> tuple[Tensor, Tensor]:
    """Both tails, `betainc(a, b, x)` and `betainc(b, a, 1 - x)`.

    Args:
        a: Positive tensor.
        b: Positive tensor.
        x: Tensor in `[0, 1]`.
        complement: `1 - x`, given as it is known best: near `x = 1` the
            difference has lost its digits.
        differentiable: Whether gradients are wanted. If not, the compiled
            kernel of the backend is used where there is one.

    Returns:
        Two tensors of the broadcast shape, float32 or wider. The tail that
        begins beyond the mean is the rest of the other one; with a parameter
        below 1 it may be the smaller one, and then its error is absolute.

    Example:

    >>> lower, upper = betainc_tails(2.0, 3.0, 0.5, 0.5)
    >>> round(float(lower), 4), round(float(upper), 4)
    (0.6875, 0.3125)
    """
    a, b, x, complement = widen(a, b, x, complement)
    one = ops.ones_like(a + b + x + complement)
    a, b, x, complement = a * one, b * one, x * one, complement * one
    at_zero, at_one = x <= 0, complement <= 0
    edge = at_zero | at_one
    x = ops.where(edge, 0.5 * one, x)
    complement = ops.where(edge, 0.5 * one, complement)
    # The fraction converges fast below the mean: take the tail there. Written
    # without a + b, in which the smaller of the two would be lost.
    swap = x * (b + 1.0) > complement * (a + 1.0)
    p, q = ops.where(swap, b, a), ops.where(swap, a, b)
    t, rest = ops.where(swap, complement, x), ops.where(swap, x, complement)
    if not differentiable and has_betainc():
        small = betainc_value(p, q, t, rest)
    else:
        small = _small_tail(p, q, t, rest)
    large = 1.0 - small
    lower, upper = ops.where(swap, large, small), ops.where(swap, small, large)
    zero = ops.zeros_like(lower)
    lower = ops.where(at_zero, zero, ops.where(at_one, one, lower))
    upper = ops.where(at_zero, one, ops.where(at_one, zero, upper))
    return lower, upper


def _small_tail(p: Tensor, q: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    total = p + q
    # log(t^p rest^q / B(p, q)), as in the density of the beta; total * t - p without
    # its cancellation.
    excess = q * t - p * rest
    log_front = (
        -deviance(p, total * t, excess)
        - deviance(q, total * rest, -excess)
        - (stirling_error(p) + stirling_error(q) - stirling_error(total))
        - HALF_LOG_TWO_PI
        + 0.5 * (ops.log(p) + ops.log(q) - ops.log(total))
    )
    # Each method gets arguments at which it converges.
    large = (p > _LARGE) & (q > _LARGE)
    one, half = ops.ones_like(t), ops.full_like(t, 0.5)
    a, b = (ops.where(large, one, v) for v in (p, q))
    x, y = (ops.where(large, half, v) for v in (t, rest))
    fraction = _fraction(a, b, x, y) / a
    a, b = (ops.where(large, v, _LARGE * one) for v in (p, q))
    x, y = (ops.where(large, v, half) for v in (t, rest))
    factor = ops.where(large, _integral(a, b, x, y), fraction)
    return between(ops.exp(log_front) * factor, 0.0, 1.0)


def _integral(p: Tensor, q: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    """The integral from 0 to t of the density, relative to that at t."""
    slope = ((p - 1.0) * rest - (q - 1.0) * t) / (t * rest)
    curvature = (p - 1.0) / (t * t) + (q - 1.0) / (rest * rest)
    steepness = larger(slope, 0.0)
    root = ops.sqrt(ops.square(steepness) + 2.0 * _REACH * curvature)
    reach = ops.stop_gradient(smaller(2.0 * _REACH / (steepness + root), t))
    nodes = ops.convert_to_tensor(0.5 * (_NODES + 1.0), t.dtype)
    weights = ops.convert_to_tensor(0.5 * _WEIGHTS, t.dtype)
    steps = reach[..., None] * nodes
    p, q, t, edge, slope = (v[..., None] for v in (p, q, t, rest, slope))
    exponent = (p - 1.0) * log1p_minus(-steps / t) - slope * steps
    exponent = exponent + (q - 1.0) * log1p_minus(steps / edge)
    return reach / (t * edge)[..., 0] * ops.sum(weights * ops.exp(exponent), axis=-1)


def _fraction(p: Tensor, q: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    """`1 / (1 + c_1 / (1 + d_1 / (1 + c_2 / ...)))`, `2 * _PAIRS` terms deep."""
    p, q, t, rest = (ops.expand_dims(v, -1) for v in (p, q, t, rest))
    k = ops.arange(_PAIRS, dtype=t.dtype)
    m = k + 1.0
    share = (p + k) / (p + 2.0 * k)
    # 1 + c, whose c = -share (p + q + k) / (p + 2 k + 1) t is close to -1.
    c = rest + t * (k / (p + 2.0 * k) + share * ((m - q) / (p + (k + m))))
    d = m * ((q - m) / (p + (2.0 * m - 1.0))) / (p + 2.0 * m) * t
    # A pair of steps num / den -> c / (1 + d / (1 + num / den)) is a matrix.
    # In the coordinates (num + den, den) it has no entries that cancel. The
    # product is taken in pairs: six levels instead of a chain of divisions.
    matrix = (c, d, ops.ones_like(c), d)
    for _ in range(_PAIRS.bit_length() - 1):
        a, b, c, d = (v[..., 0::2] for v in matrix)
        e, f, g, h = (v[..., 1::2] for v in matrix)
        matrix = (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)
        # Only ratios matter: the common factor is taken out.
        size = larger(ops.abs(matrix[0]), ops.abs(matrix[2]))
        size = ops.stop_gradient(larger(size, 1e-30))
        matrix = tuple(v / size for v in matrix)
    a, b, c, d = (v[..., 0] for v in matrix)
    return (c + d) / (a + b)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Logarithm of the beta function, `log B(a, b)`.

    Args:
        a: Positive tensor.
        b: Positive tensor.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(log_beta(2.0, 3.0)), 4)
    -2.4849
    """
    a, b = widen(a, b)
    total = a + b
    log_total = ops.log(total)
    return (
        (a - 0.5) * _log_share(a, b)
        + (b - 0.5) * _log_share(b, a)
        - 0.5 * log_total
        + (stirling_error(a) + stirling_error(b) - stirling_error(total))
        + HALF_LOG_TWO_PI
    )


def _log_share(a: Tensor, b: Tensor) -> Tensor:
    """`log(a / (a + b))`, accurate where it is near 0."""
    first = a > b
    ratio = ops.where(first, b, a) / ops.where(first, a, b)
    return -ops.log1p(ratio) + ops.where(first, ops.zeros_like(a), ops.log(ratio))
