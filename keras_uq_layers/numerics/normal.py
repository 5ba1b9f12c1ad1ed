"""The normal distribution. `loc` and `scale` are in the unit of `y`."""

import math

from keras import ops

from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.special import ndtri

# Beyond 40 standard deviations density and tail are 0 even in float64.
_FAR = 40.0


def normal_log_prob(y, loc, scale):
    """Log density of the normal distribution, in nats.

    ```
    log p(y) = -z^2 / 2 - log(scale) - log(2 pi) / 2,   z = (y - loc) / scale
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of means.
        scale: Tensor of standard deviations, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(normal_log_prob(1.0, 0.0, 2.0)), 4)
    -1.7371
    """
    y, loc, scale = widen(y, loc, scale)
    z = divide(*half_difference(y, loc, scale))
    # (z / 2) * z and not z^2 / 2: the latter overflows first.
    return -(0.5 * z) * z - ops.log(scale) - 0.5 * math.log(2.0 * math.pi)


def normal_cdf(y, loc, scale):
    """Distribution function of the normal, accurate in the lower tail.

    ```
    F(y) = erfc(-z / sqrt(2)) / 2,   z = (y - loc) / scale
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of means.
        scale: Tensor of standard deviations, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(normal_cdf(1.96, 0.0, 1.0)), 3)
    0.975
    """
    y, loc, scale = widen(y, loc, scale)
    scale = nan_unless_positive(scale)
    half, half_scale = half_difference(y, loc, scale)
    far = ops.abs(half) >= _FAR * half_scale
    z = divide(ops.where(far, ops.zeros_like(half), half), half_scale)
    near_value = 0.5 * ops.erfc(-z * math.sqrt(0.5))
    return ops.where(far, ops.cast(half > 0, half.dtype), near_value)


def normal_quantile(p, loc, scale):
    """Quantile of the normal distribution.

    ```
    Q(p) = loc + scale * ndtri(p)
    ```

    Args:
        p: Tensor of probabilities in `[0, 1]`.
        loc: Tensor of means.
        scale: Tensor of standard deviations, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(normal_quantile(0.5, 3.0, 2.0)), 4)
    3.0
    """
    p, loc, scale = widen(p, loc, scale)
    scale = nan_unless_positive(scale)
    return loc + scale * ndtri(p)


def normal_crps(y, loc, scale):
    """Continuous ranked probability score of the normal, in the unit of `y`.

    ```
    crps = scale * (z * (2 F(z) - 1) + 2 phi(z) - 1 / sqrt(pi))
    ```

    with `z = (y - loc) / scale`, `F` and `phi` the standard normal
    distribution function and density. Smaller is better; never negative.

    Args:
        y: Tensor of observations.
        loc: Tensor of means.
        scale: Tensor of standard deviations, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(normal_crps(0.0, 0.0, 1.0)), 4)
    0.2337

    Reference:
        Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules, Prediction,
        and Estimation", JASA 102(477), doi:10.1198/016214506000001437.
    """
    y, loc, scale = widen(y, loc, scale)
    scale = nan_unless_positive(scale)
    difference = y - loc
    far = ops.abs(difference) >= _FAR * scale
    near = ops.where(far, ops.zeros_like(difference), difference)
    z = divide(near, scale)
    density = math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * z * z)
    near_value = near * ops.erf(z * math.sqrt(0.5)) + scale * (
        2.0 * density - math.sqrt(1.0 / math.pi)
    )
    far_value = ops.abs(difference) - scale * math.sqrt(1.0 / math.pi)
    return ops.where(far, far_value, near_value)


def normal_kl(loc, scale, prior_loc=0.0, prior_scale=1.0):
    """Kullback-Leibler divergence between two normals, in nats.

    ```
    KL(N(m, s) || N(m0, s0)) = log(s0 / s) + (s^2 + (m - m0)^2) / (2 s0^2) - 1/2
    ```

    Args:
        loc: Tensor, mean of the first distribution.
        scale: Tensor, its standard deviation, positive.
        prior_loc: Mean of the second distribution.
        prior_scale: Its standard deviation, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider, one value per pair.

    Example:

    >>> round(float(normal_kl(1.0, 2.0)), 4)
    1.3069

    Reference:
        Kingma & Welling, 2014, "Auto-Encoding Variational Bayes", ICLR,
        arXiv:1312.6114, appendix B.
    """
    loc, scale, prior_loc, prior_scale = widen(loc, scale, prior_loc, prior_scale)
    ratio = divide(scale, prior_scale)
    z = divide(*half_difference(loc, prior_loc, prior_scale))
    # The logarithms stay apart: the log of an overflowed ratio would be inf.
    log_ratio = ops.log(scale) - ops.log(prior_scale)
    return (0.5 * ratio) * ratio + (0.5 * z) * z - log_ratio - 0.5


def log_ndtr(z):
    """Logarithm of the standard normal distribution function.

    ```
    log_ndtr(z) = log(Phi(z))
    ```

    Accurate in both tails, where `log(normal_cdf(z))` is `-inf` or 0.

    Args:
        z: Tensor.

    Returns:
        Tensor of the shape of `z`, float32 or wider.

    Example:

    >>> round(float(log_ndtr(-40.0)), 2)
    -804.61
    """
    z = widen(z)
    lower = z < 0
    below = ops.where(lower, z, -ops.ones_like(z))
    above = ops.where(lower, ops.ones_like(z), z)
    tail = log_ndtr_scaled(below) - (0.5 * below) * below
    return ops.where(lower, tail, ops.log1p(-0.5 * ops.erfc(above * math.sqrt(0.5))))


def log_ndtr_scaled(z):
    """`log_ndtr(z) + z^2 / 2` for `z <= 0`: what the square hides.

    Args:
        z: Tensor, not positive.

    Returns:
        Tensor of the shape of `z`, float32 or wider; about `-log(-z)`.

    Example:

    >>> round(float(log_ndtr_scaled(0.0)), 4)
    -0.6931
    """
    z = widen(z)
    wide = "float64" in str(z.dtype)
    edge = -20.0 if wide else -8.0
    far = z < edge
    near = ops.where(far, -ops.ones_like(z), z)
    near_value = (0.5 * near) * near + ops.log(0.5 * ops.erfc(-near * math.sqrt(0.5)))
    away = ops.where(far, z, edge * ops.ones_like(z))
    inverse = ops.square(1.0 / away)
    # 1 - 1/z^2 + 3/z^4 - 15/z^6 ...: the tail of the continued integration by
    # parts; the first term left out is below the rounding error at the edge.
    series = ops.zeros_like(z)
    for k in range(9 if wide else 7, 0, -1):
        series = -(2 * k - 1) * inverse * (1.0 + series)
    far_value = ops.log1p(series) - ops.log(-away) - 0.5 * math.log(2.0 * math.pi)
    return ops.where(far, far_value, near_value)
