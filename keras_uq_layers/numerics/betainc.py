"""The regularised incomplete beta function, with gradients on any backend."""

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.intervals import log1m_exp
from keras_uq_layers.numerics.quadrature import gauss_legendre
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
# Nodes of the quadrature.
_NODES = 48
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
    swap, p, q, t, rest = _swapped(a, b, x, complement)
    if not differentiable and has_betainc():
        small = betainc_value(p, q, t, rest)
    else:
        log_front, factor = _small_tail(p, q, t, rest)
        small = between(ops.exp(log_front) * factor, 0.0, 1.0)
    large = 1.0 - small
    lower, upper = ops.where(swap, large, small), ops.where(swap, small, large)
    zero = ops.zeros_like(lower)
    lower = ops.where(at_zero, zero, ops.where(at_one, one, lower))
    upper = ops.where(at_zero, one, ops.where(at_one, zero, upper))
    return lower, upper


def log_betainc_tails(
    a: Tensor,
    b: Tensor,
    x: Tensor,
    complement: Tensor,
    logs: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logarithms of both tails, see `betainc_tails`.

    Accurate where a tail underflows, and where it is close to 1.

    Args:
        a: Positive tensor.
        b: Positive tensor.
        x: Tensor inside (0, 1).
        complement: `1 - x`, given as it is known best.
        logs: `log(x)` and `log(1 - x)`, where their slopes are known although
            those by `x`, up to `b / x`, overflow.

    Returns:
        Two tensors of the broadcast shape, float32 or wider.

    Example:

    >>> lower, upper = log_betainc_tails(200.0, 1.0, 0.001, 0.999)
    >>> round(float(lower), 2), float(upper)
    (-1381.55, -0.0)
    """
    a, b, x, complement = widen(a, b, x, complement)
    one = ops.ones_like(a + b + x + complement)
    a, b, x, complement = a * one, b * one, x * one, complement * one
    swap, p, q, t, rest = _swapped(a, b, x, complement)
    if logs is not None:
        log_x, log_rest = logs
        logs = ops.where(swap, log_rest, log_x), ops.where(swap, log_x, log_rest)
    log_front, factor = _small_tail(p, q, t, rest, logs)
    log_small = smaller(log_front + ops.log(factor), 0.0)
    log_large = log1m_exp(log_small)
    lower = ops.where(swap, log_large, log_small)
    return lower, ops.where(swap, log_small, log_large)


def _swapped(a: Tensor, b: Tensor, x: Tensor, complement: Tensor) -> tuple:
    """Whether to take the tail of `1 - x`, and the arguments of the one taken.

    The fraction converges fast below the mean: take the tail there.
    """
    # Written without a + b, in which the smaller of the two would be lost.
    swap = x * (b + 1.0) > complement * (a + 1.0)
    p, q = ops.where(swap, b, a), ops.where(swap, a, b)
    t, rest = ops.where(swap, complement, x), ops.where(swap, x, complement)
    return swap, p, q, t, rest


def _small_tail(
    p: Tensor,
    q: Tensor,
    t: Tensor,
    rest: Tensor,
    logs: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The tail `exp(log_front) * factor`."""
    total = p + q
    log_p, log_q, log_total = ops.log(p), ops.log(q), ops.log(total)
    log_means = [None, None] if logs is None else [log_total + v for v in logs]
    # log(t^p rest^q / B(p, q)), as in the density of the beta; total * t - p without
    # its cancellation.
    excess = q * t - p * rest
    log_front = (
        -deviance(p, total * t, excess, log_means[0])
        - deviance(q, total * rest, -excess, log_means[1])
        - (stirling_error(p) + stirling_error(q) - stirling_error(total))
        - HALF_LOG_TWO_PI
        + 0.5 * (log_p + log_q - log_total)
    )
    # Each method gets arguments at which it converges.
    large = (p > _LARGE) & (q > _LARGE)
    one, half = ops.ones_like(t), ops.full_like(t, 0.5)
    a, b = (ops.where(large, one, v) for v in (p, q))
    x, y = (ops.where(large, half, v) for v in (t, rest))
    fraction = _fraction(a, b, x, y) / a
    a, b = (ops.where(large, v, _LARGE * one) for v in (p, q))
    x, y = (ops.where(large, v, half) for v in (t, rest))
    return log_front, ops.where(large, _integral(a, b, x, y), fraction)


def _integral(p: Tensor, q: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    """The integral from 0 to t of the density, relative to that at t.

    All steps, slopes and curvatures are in units of `t`.
    """
    odds = t / rest
    slope = (p - 1.0) - (q - 1.0) * odds
    curvature = (p - 1.0) + (q - 1.0) * odds * odds
    # A straight line, in which the curvature is lost.
    steep = slope * slope > 16.0 / float(finfo(t.dtype).eps) * curvature
    steep = steep & (slope > 0)
    line = 1.0 / (ops.where(steep, slope, ops.ones_like(t)) * rest)
    slope = ops.where(steep, ops.zeros_like(t), slope)
    steepness = larger(slope, 0.0)
    root = ops.sqrt(ops.square(steepness) + 2.0 * _REACH * curvature)
    reach = ops.stop_gradient(smaller(2.0 * _REACH / (steepness + root), 1.0))
    nodes, weights = gauss_legendre(_NODES, t.dtype)
    steps = reach[..., None] * nodes
    p, q, odds, slope = (v[..., None] for v in (p, q, odds, slope))
    exponent = (p - 1.0) * log1p_minus(-steps) - slope * steps
    exponent = exponent + (q - 1.0) * log1p_minus(steps * odds)
    integral = reach / rest * ops.sum(weights * ops.exp(exponent), axis=-1)
    return ops.where(steep, line, integral)


def _fraction(p: Tensor, q: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    """`1 / (1 + c_1 / (1 + d_1 / (1 + c_2 / ...)))`, `2 * _PAIRS` terms deep."""
    p, q, t, rest = (ops.expand_dims(v, -1) for v in (p, q, t, rest))
    k = ops.arange(_PAIRS, dtype=t.dtype)
    m = k + 1.0
    # At k = 0 the quotients are 1 and 0, with a slope of 0 that p^2 must not spoil.
    first, twice = k == 0, ops.where(k == 0, ops.ones_like(p), p + 2.0 * k)
    share = ops.where(first, ops.ones_like(twice), (p + k) / twice)
    # 1 + c, whose c = -share (p + q + k) / (p + 2 k + 1) t is close to -1.
    c = rest + t * (k / twice + share * ((m - q) / (p + (k + m))))
    d = m * ((q - m) / (p + (2.0 * m - 1.0))) / (p + 2.0 * m) * t
    # A pair of steps num / den -> c / (1 + d / (1 + num / den)) is a matrix.
    # In the coordinates (num + den, den) it has no entries that cancel. The
    # product is taken in pairs: six levels instead of a chain of divisions.
    # With a large p, c is about 1 / p and d about 1 / p^2, which underflows in a
    # product. The coordinate den is scaled, without a rounding error.
    unit = ops.where(p < 2.0**16, 1.0, ops.where(p < 2.0**32, 2.0**-24, 2.0**-40))
    unit = ops.cast(unit, t.dtype)
    matrix = (c, d / unit, unit * ops.ones_like(c), d)
    for _ in range(_PAIRS.bit_length() - 1):
        a, b, c, d = (v[..., 0::2] for v in matrix)
        e, f, g, h = (v[..., 1::2] for v in matrix)
        matrix = (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)
        # Only ratios matter: the common factor is taken out.
        size = larger(ops.abs(matrix[0]), ops.abs(matrix[2]))
        size = ops.stop_gradient(larger(size, 1e-30))
        matrix = tuple(v / size for v in matrix)
    a, b, c, d = (v[..., 0] for v in matrix)
    unit = unit[..., 0]
    return (c / unit + d) / (a + b * unit)


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
