"""The normal distribution clipped to bounds, what is outside piling up there.

The bounds are floats, `-inf` and `inf` allowed, in the unit of `y`. The
density is one for the values between the bounds, and a probability for each
bound: with respect to length plus a unit mass at each finite bound.
"""

import math

import numpy as np
from keras import ops

from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.normal import log_ndtr
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_log_prob
from keras_uq_layers.numerics.truncated_normal import truncated_normal_moments


def censored_normal_log_prob(y, loc, scale, lower, upper):
    """Log density of a censored normal, in nats; a log probability at a bound.

    ```
    log p(y) = log N(y; loc, scale)                between the bounds
             = log Phi((lower - loc) / scale)      at lower
             = log Phi((loc - upper) / scale)      at upper
    ```

    Args:
        y: Tensor of observations. Outside of the bounds: `-inf`, with a
            gradient of 0.
        loc: Tensor, mean before the censoring.
        scale: Tensor, standard deviation before the censoring, positive.
        lower: Float, lower bound or `-inf`.
        upper: Float, upper bound or `inf`.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(censored_normal_log_prob(0.0, 0.0, 1.0, 0.0, np.inf)), 4)
    -0.6931

    Reference:
        Tobin, 1958, "Estimation of Relationships for Limited Dependent
        Variables", Econometrica 26(1), doi:10.2307/1907382.
    """
    y, loc, scale = widen(y, loc, scale)
    outside = (y < lower) | (y > upper)
    loc, scale = within_support(outside, loc, scale)
    one = ops.ones_like(y * loc * scale)
    at_lower, at_upper = y <= lower, y >= upper
    safe = ops.where(at_lower | at_upper, loc * one, y * one)
    value = normal_log_prob(safe, loc, scale)
    if np.isfinite(lower):
        above, half_scale = half_difference(lower * one, loc, scale)
        value = ops.where(at_lower, _log_ndtr(above, half_scale, at_lower), value)
    if np.isfinite(upper):
        below, half_scale = half_difference(loc, upper * one, scale)
        value = ops.where(at_upper, _log_ndtr(below, half_scale, at_upper), value)
    return ops.where(outside, ops.full_like(value, -np.inf), value)


def _log_ndtr(x, scale, wanted):
    """`log Phi(x / scale)` where wanted, else 0; no quotient that overflows to inf."""
    # Phi is 1 from where the density underflows: no value and no slope.
    most = math.sqrt(-2.0 * math.log(float(finfo(x.dtype).tiny)))
    certain = x > most * scale
    x = ops.where(wanted & ops.logical_not(certain), x, ops.zeros_like(x))
    value = log_ndtr(divide(x, scale))
    return ops.where(certain, ops.zeros_like(value), value)


def censored_normal_cdf(y, loc, scale, lower, upper):
    """Distribution function of the censored normal distribution.

    ```
    F(y) = 0 below lower, Phi((y - loc) / scale) from there, 1 from upper on
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor, mean before the censoring.
        scale: Tensor, standard deviation before the censoring, positive.
        lower: Float, lower bound or `-inf`.
        upper: Float, upper bound or `inf`.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> float(censored_normal_cdf(0.0, 0.0, 1.0, 0.0, np.inf))
    0.5
    """
    y, loc, scale = widen(y, loc, scale)
    value = normal_cdf(y, loc, scale)
    value = ops.where(y < lower, ops.zeros_like(value), value)
    return ops.where(y >= upper, ops.ones_like(value), value)


def censored_normal_crps(y, loc, scale, lower, upper):
    """Continuous ranked probability score, in the unit of `y`.

    ```
    crps = scale (|w - z| + z (2 Phi(z) - 1) + 2 phi(z)
         + u U^2 - 2 phi(u) U - l L^2 - 2 phi(l) L
         - (Phi(sqrt(2) u) - Phi(sqrt(2) l)) / sqrt(pi))
    ```

    with `w`, `l`, `u` the standardised `y`, `lower` and `upper`, `z` the
    value of `w` clipped to `[l, u]`, `L = Phi(l)` and `U = 1 - Phi(u)`.

    Args:
        y: Tensor of observations.
        loc: Tensor, mean before the censoring.
        scale: Tensor, standard deviation before the censoring, positive.
        lower: Float, lower bound or `-inf`.
        upper: Float, upper bound or `inf`.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(censored_normal_crps(0.0, 0.0, 1.0, 0.0, np.inf)), 4)
    0.1168

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    y, loc, scale = widen(y, loc, scale)
    one = ops.ones_like(y * loc * scale)
    inside = between(y, lower, upper) * one
    z = divide(*half_difference(inside, loc, scale))
    value = z * ops.erf(z * math.sqrt(0.5)) + 2.0 * _density(z)
    inner = one
    for bound, side in ((lower, -1.0), (upper, 1.0)):
        if np.isfinite(bound):
            # The distance of the bound, positive where the centre is inside.
            u = side * divide(*half_difference(bound * one, loc, scale))
            mass = 0.5 * ops.erfc(u * math.sqrt(0.5))
            value = value + mass * (u * mass - 2.0 * _density(u))
            inner = inner - 0.5 * ops.erfc(u)
    return ops.abs(y - inside) + scale * (value - inner / math.sqrt(math.pi))


def censored_normal_moments(loc, scale, lower, upper):
    """Mean and variance of the censored normal distribution.

    The part between the bounds is a truncated normal; the law of total
    variance puts the three parts together without a cancellation.

    Args:
        loc: Tensor, mean before the censoring.
        scale: Tensor, standard deviation before the censoring, positive.
        lower: Float, lower bound or `-inf`.
        upper: Float, upper bound or `inf`.

    Returns:
        Two tensors of the broadcast shape: mean in the unit of `y`, variance
        in its square; float32 or wider.

    Example:

    >>> mean, variance = censored_normal_moments(0.0, 1.0, 0.0, np.inf)
    >>> round(float(mean), 4), round(float(variance), 4)
    (0.3989, 0.3408)
    """
    loc, scale = widen(loc, scale)
    inner_mean, inner_variance = truncated_normal_moments(loc, scale, lower, upper)
    parts, inner = [], ops.ones_like(inner_mean)
    for bound, side in ((lower, -1.0), (upper, 1.0)):
        if np.isfinite(bound):
            z = divide(*half_difference(bound * ops.ones_like(inner), loc, scale))
            mass = 0.5 * ops.erfc(side * z * math.sqrt(0.5))
            parts.append((mass, bound))
            inner = inner - mass
    inner = larger(inner, 0.0)
    mean = inner * inner_mean + sum(mass * bound for mass, bound in parts)
    variance = inner * (inner_variance + ops.square(inner_mean - mean))
    variance = variance + sum(mass * ops.square(b - mean) for mass, b in parts)
    return mean, variance


def _density(z):
    # exp(-z^2 / 2) is 0 beyond 40, where the square might overflow.
    z = between(z, -40.0, 40.0)
    return math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * z * z)
