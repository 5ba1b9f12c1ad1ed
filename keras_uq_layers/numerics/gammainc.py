"""The regularised incomplete gamma functions, with gradients on any backend."""

import numpy as np
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics import special
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

# From this shape on the integrand is smooth down to 0, and few nodes do.
_LARGE = 100.0
_TERMS = 120
# Terms of an alternating series at arguments of 1 and less.
_FEW_TERMS = 20
# Nodes of the quadrature.
_NODES = 64
# The integral is cut off where the integrand has fallen by exp(-reach).
_REACH = 60.0


def gammainc(
    a: Tensor, x: Tensor, differentiable: bool = True, log_x: Tensor | None = None
) -> Tensor:
    """Regularised lower incomplete gamma function, with gradients for both.

    ```
    gammainc(a, x) = integral from 0 to x of t^(a-1) exp(-t) dt / Gamma(a)
    ```

    A series for small and a quadrature for large arguments, in `keras.ops`:
    the functions of the backends have no gradient for `a` (PyTorch) or one
    that is off by 0.1 % for large `a` (TensorFlow), or are themselves off by
    1 % in float32 at 1e5 (JAX).

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.
        differentiable: Whether gradients are wanted. If not, the compiled
            kernel of the backend is used where there is an accurate one.
        log_x: `log(x)`, where it is known although `x` underflows.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> round(float(gammainc(0.5, 0.5)), 4)
    0.6827

    Reference:
        Gil, Segura & Temme, 2012, "Efficient and accurate algorithms for the
        computation and inversion of the incomplete gamma function ratios",
        SIAM J. Sci. Comput. 34(6), arXiv:1306.1754.
    """
    a, x = widen(a, x)
    small, a, x, log_first = _first_term(a, x, log_x)
    if not differentiable and special.has_gammainc():
        value = special.gammainc_value(a, x)
    else:
        value = _tails(a, x)[0]
    return ops.where(small, ops.exp(log_first), value)


def gammaincc(a: Tensor, x: Tensor, differentiable: bool = True) -> Tensor:
    """Regularised upper incomplete gamma function, `1 - gammainc(a, x)`.

    Accurate where it is small. See `gammainc`.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.
        differentiable: Whether gradients are wanted. If not, the compiled
            kernel of the backend is used where there is an accurate one.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> round(float(gammaincc(0.5, 0.5)), 4)
    0.3173
    """
    a, x = widen(a, x)
    if not differentiable and special.has_gammainc():
        return special.gammaincc_value(a, x)
    return _tails(a, x)[1]


def log_gammainc_tails(
    a: Tensor, x: Tensor, log_x: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logarithms of both tails, `gammainc(a, x)` and `gammaincc(a, x)`.

    Accurate where a tail underflows, and where it is close to 1.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, positive.
        log_x: `log(x)`, where it is known although `x` underflows.

    Returns:
        Two tensors of the broadcast shape.

    Example:

    >>> lower, upper = log_gammainc_tails(1.0, 1000.0)
    >>> float(lower), float(upper)
    (-0.0, -1000.0)
    """
    a, x = widen(a, x)
    one = ops.ones_like(a * x)
    small, a, x, log_first = _first_term(a * one, x * one, log_x)
    log_front, factor, upper = _small_tail(a, x)
    log_small = smaller(log_front + ops.log(factor), 0.0)
    log_large = log1m_exp(log_small)
    lower = ops.where(upper, log_large, log_small)
    higher = ops.where(upper, log_small, log_large)
    rare = _is_rare(a, x)
    half = 0.5 * one
    tail = _rare_tail(ops.where(rare, a, half), ops.where(rare, x, half))
    higher = ops.where(rare, ops.log(tail), higher)
    lower = ops.where(small, log_first, lower)
    return lower, ops.where(small, log1m_exp(log_first), higher)


def _first_term(
    a: Tensor, x: Tensor, log_x: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where `x` underflows, numbers for elsewhere, and there `log(x^a / Gamma(a + 1))`.

    Of such an `x` the first term of the series is the lower tail.
    """
    one = ops.ones_like(a * x)
    log_x = -np.inf * one if log_x is None else log_x
    small = (x < float(finfo(x.dtype).tiny)) & (log_x > -np.inf)
    log_first = _log_power(ops.where(small, a, one), ops.where(small, log_x, -one))
    a, x = ops.where(small, one, a), ops.where(small, one, x)
    return small, a, x, smaller(log_first, 0.0)


def _log_power(a: Tensor, log_x: Tensor) -> Tensor:
    """`log(x^a / Gamma(a + 1))`"""
    few = a < 0.5
    one = ops.ones_like(a)
    # Near 1 the kernel of JAX is off by 5e-7, beside which a small a is lost.
    large = special.lgamma(1.0 + ops.where(few, one, a))
    return a * log_x - ops.where(few, _lgamma1p(ops.where(few, a, 0.0 * a)), large)


def _lgamma1p(a: Tensor) -> Tensor:
    """`lgamma(1 + a)` of numbers from 0 to 1/2, to the last digits near 0.

    ```
    -log(1 + a) + a (1 - gamma) + sum over n from 2 of (zeta(n) - 1) (-a)^n / n
    ```

    Reference:
        Abramowitz & Stegun, 1964, "Handbook of Mathematical Functions", 6.1.33.
    """
    series = ops.zeros_like(a)
    for n in range(_FEW_TERMS + 6, 1, -1):
        series = -a * series + _zeta_minus_1(n) / n
    return -ops.log1p(a) + a * (1.0 - np.euler_gamma + a * series)


def _zeta_minus_1(n: int) -> float:
    """`2^-n + 3^-n + ...`: some terms, and the integral of the others."""
    k, end = np.arange(2.0, 1001.0), 1000.0
    rest = end ** (1 - n) / (n - 1) - end**-n / 2 + n * end ** (-n - 1) / 12
    return float(np.sum(k**-n) + rest)


def _tails(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    one = ops.ones_like(a * x)
    a, x = a * one, x * one
    at_zero = x <= 0
    x = ops.where(at_zero, one, x)
    log_front, factor, upper = _small_tail(a, x)
    # Both factors are finite, their product at most 1.
    small = smaller(ops.exp(log_front) * factor, 1.0)
    lower = ops.where(upper, 1.0 - small, small)
    higher = ops.where(upper, small, 1.0 - small)
    # Below a shape of 1/2 the upper tail is small from 0 on: 1 - lower has lost it.
    rare = _is_rare(a, x)
    half = 0.5 * one
    tail = _rare_tail(ops.where(rare, a, half), ops.where(rare, x, half))
    higher = ops.where(rare, tail, higher)
    zero = ops.zeros_like(one)
    return ops.where(at_zero, zero, lower), ops.where(at_zero, one, higher)


def _is_rare(a: Tensor, x: Tensor) -> Tensor:
    return (a < 0.5) & (x <= 1.0)


def _small_tail(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tail that a sum gives, `exp(log_front) * factor`, and if it is the upper."""
    one = ops.ones_like(x)
    # log(x^a exp(-x) / Gamma(a)), as in the density.
    log_front = 0.5 * ops.log(a) - deviance(a, x) - stirling_error(a) - HALF_LOG_TWO_PI
    upper = (x > a) & (x > 1.0)
    summed = ops.logical_not(upper) & (a < _LARGE)
    # Each method gets arguments at which it converges.
    series = _series(ops.where(summed, a, one), ops.where(summed, x, one))
    safe_a, safe_x = ops.where(summed, _LARGE * one, a), ops.where(summed, one, x)
    integral = _integral(safe_a, safe_x, upper)
    return log_front, ops.where(summed, series / a, integral), upper


def _series(a: Tensor, x: Tensor) -> Tensor:
    """`1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ...`"""
    value = ops.ones_like(a)
    for n in range(_TERMS, 0, -1):
        value = 1.0 + value * (x / (a + float(n)))
    return value


def _rare_tail(a: Tensor, x: Tensor) -> Tensor:
    """`1 - x^a / Gamma(a + 1) (1 + a sum over n of (-x)^n / (n! (a + n)))`"""
    series = ops.zeros_like(a)
    for n in range(_FEW_TERMS, 0, -1):
        series = -x / float(n) * (1.0 / (a + float(n)) + series)
    exponent = _log_power(a, ops.log(x))
    return -ops.expm1(exponent) - ops.exp(exponent) * a * series


def _integral(a: Tensor, x: Tensor, upper: Tensor) -> Tensor:
    """The integral of the density over `t / x`, relative to that at `x`."""
    one = ops.ones_like(x)
    sign = ops.where(upper, one, -one)
    slope = sign * (x - (a - 1.0))
    # A straight line, in which the curvature is lost.
    steep = slope * slope > 16.0 / float(finfo(x.dtype).eps) * larger(a, 1.0)
    line = 1.0 / ops.where(steep, slope, one)
    slope = ops.where(steep, one, slope)
    steepness = between(ops.stop_gradient(slope), 0.0, 1e15)
    curvature = larger(ops.stop_gradient(a) - 1.0, 0.0)
    # Downwards the logarithm falls at least as a parabola does; upwards its
    # curvature flattens, u - log(1 + u) >= u^2 / (2 + 2 u).
    twice, rest = 2.0 * _REACH, steepness - _REACH
    down = twice / (steepness + ops.sqrt(ops.square(steepness) + twice * curvature))
    square = ops.square(rest) + twice * (2.0 * steepness + curvature)
    up = twice / (rest + ops.sqrt(square))
    reach = ops.where(upper, up, smaller(down, 1.0))
    nodes, weights = gauss_legendre(_NODES, x.dtype)
    steps = reach[..., None] * nodes
    exponent = (a - 1.0)[..., None] * log1p_minus(sign[..., None] * steps)
    exponent = exponent - slope[..., None] * steps
    integral = reach * ops.sum(weights * ops.exp(exponent), axis=-1)
    return ops.where(steep, line, integral)
