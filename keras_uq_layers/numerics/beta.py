"""The beta distribution on (0, 1), and its incomplete integral."""

import numpy as np
from keras import ops

from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.root import values_only
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import betainc_value
from keras_uq_layers.numerics.special import has_betainc

# Pairs of steps of the continued fraction.
_PAIRS = 64


def betainc(a, b, x):
    """Regularised incomplete beta function, with gradients for all arguments.

    ```
    betainc(a, b, x) = integral from 0 to x of t^(a-1) (1-t)^(b-1) dt / B(a, b)
    ```

    A continued fraction of fixed depth in `keras.ops`: the backends either
    lack this function (PyTorch) or its gradients (TensorFlow, JAX). Relative
    error of the smaller tail below 1e-6 in float64 where `a` and `b` are below
    1e4, and up to about 1 % near the mean where they are 1e5.

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


def betainc_tails(a, b, x, complement):
    """Both tails, `betainc(a, b, x)` and `betainc(b, a, 1 - x)`.

    Args:
        a: Positive tensor.
        b: Positive tensor.
        x: Tensor in `[0, 1]`.
        complement: `1 - x`, given as it is known best: near `x = 1` the
            difference has lost its digits.

    Returns:
        Two tensors of the broadcast shape, float32 or wider.

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
    # The fraction converges fast below the mean: take the tail there.
    swap = x * (a + b + 2.0) > a + 1.0
    p, q = ops.where(swap, b, a), ops.where(swap, a, b)
    t, rest = ops.where(swap, complement, x), ops.where(swap, x, complement)
    if values_only() and has_betainc():
        small = betainc_value(p, q, t)
    else:
        small = _small_tail(p, q, t, rest)
    large = 1.0 - small
    lower, upper = ops.where(swap, large, small), ops.where(swap, small, large)
    zero = ops.zeros_like(lower)
    lower = ops.where(at_zero, zero, ops.where(at_one, one, lower))
    upper = ops.where(at_zero, one, ops.where(at_one, zero, upper))
    return lower, upper


def _small_tail(p, q, t, rest):
    total = p + q
    # log(t^p rest^q / B(p, q)), as in `beta_log_prob`; total * t - p without
    # its cancellation.
    excess = q * t - p * rest
    log_front = (
        -deviance(p, total * t, excess)
        - deviance(q, total * rest, -excess)
        - (stirling_error(p) + stirling_error(q) - stirling_error(total))
        - HALF_LOG_TWO_PI
        + 0.5 * (ops.log(p) + ops.log(q) - ops.log(total))
    )
    small = ops.exp(log_front) * _fraction(p, q, t) / p
    return ops.clip(small, 0.0, 1.0)


def _fraction(p, q, t):
    """`1 / (1 + c_1 / (1 + c_2 / (1 + ...)))`, `2 * _PAIRS` terms deep."""
    p, q, t = (ops.expand_dims(v, -1) for v in (p, q, t))
    k = ops.arange(_PAIRS, dtype=t.dtype)
    m = k + 1.0
    odd = -((p + k) / (p + 2.0 * k)) * ((p + q + k) / (p + (2.0 * k + 1.0))) * t
    even = m * ((q - m) / (p + (2.0 * m - 1.0))) / (p + 2.0 * m) * t
    # Each step v -> c / (1 + v) is a matrix [[0, c], [1, 1]]. Their product is
    # taken in pairs: seven levels instead of a chain of 128 divisions.
    c = ops.reshape(ops.stack([odd, even], axis=-1), (*ops.shape(odd)[:-1], -1))
    matrix = (ops.zeros_like(c), c, ops.ones_like(c), ops.ones_like(c))
    for _ in range((2 * _PAIRS).bit_length() - 1):
        a, b, c, d = (v[..., 0::2] for v in matrix)
        e, f, g, h = (v[..., 1::2] for v in matrix)
        matrix = (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)
        # Only ratios matter: the common factor is taken out.
        size = ops.maximum(ops.abs(matrix[1]), ops.abs(matrix[3]))
        size = ops.stop_gradient(ops.maximum(size, 1e-30))
        matrix = tuple(v / size for v in matrix)
    _, numerator, _, denominator = (v[..., 0] for v in matrix)
    return denominator / (denominator + numerator)


def beta_log_prob(y, alpha, beta):
    """Log density of the beta distribution, in nats.

    ```
    log p(y) = (alpha - 1) log(y) + (beta - 1) log(1 - y) - log B(alpha, beta)
    ```

    Args:
        y: Tensor of rates. Outside the open interval (0, 1): `-inf`, with a
            gradient of 0.
        alpha: Tensor, positive.
        beta: Tensor, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(beta_log_prob(0.5, 2.0, 2.0)), 4)
    0.4055
    """
    y, alpha, beta = widen(y, alpha, beta)
    outside = (y <= 0) | (y >= 1)
    y = ops.where(outside, ops.full_like(y, 0.5), y)
    total = alpha + beta
    # total * y - alpha, without the cancellation for unequal parameters.
    excess = beta * y - alpha * (1.0 - y)
    inside = (
        -deviance(alpha, total * y, excess)
        - deviance(beta, total * (1.0 - y), -excess)
        - (stirling_error(alpha) + stirling_error(beta) - stirling_error(total))
        - HALF_LOG_TWO_PI
        + 0.5 * (ops.log(alpha) + ops.log(beta) - ops.log(total))
        - ops.log(y)
        - ops.log1p(-y)
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def beta_crps(y, alpha, beta):
    """Continuous ranked probability score of the beta distribution.

    ```
    crps = y (2 F(y; a, b) - 1)
         + a / (a + b) (1 - 2 F(y; a + 1, b) - 2 B(2a, 2b) / (a B(a, b)^2))
    ```

    Args:
        y: Tensor of observations; outside (0, 1) the distance to the interval
            is added.
        alpha: Tensor, positive.
        beta: Tensor, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(beta_crps(0.5, 1.0, 1.0)), 4)
    0.0833

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    y, alpha, beta = widen(y, alpha, beta)
    inside = ops.clip(y, 0.0, 1.0)
    lower, _ = betainc_tails(alpha, beta, inside, 1.0 - inside)
    shifted, _ = betainc_tails(alpha + 1.0, beta, inside, 1.0 - inside)
    log_ratio = log_beta(2.0 * alpha, 2.0 * beta) - 2.0 * log_beta(alpha, beta)
    spread = 2.0 * ops.exp(log_ratio - ops.log(alpha))
    value = inside * (2.0 * lower - 1.0) + alpha / (alpha + beta) * (
        1.0 - 2.0 * shifted - spread
    )
    return value + ops.abs(y - inside)


def log_beta(a, b):
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


def _log_share(a, b):
    """`log(a / (a + b))`, accurate where it is near 0."""
    larger = a > b
    ratio = ops.where(larger, b, a) / ops.where(larger, a, b)
    return -ops.log1p(ratio) + ops.where(larger, ops.zeros_like(a), ops.log(ratio))
