"""The normal distribution. `loc` and `scale` are in the unit of `y`."""

import math

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.special import ndtri

# Beyond 40 standard deviations density and tail are 0 even in float64.
_FAR = 40.0


def standardise(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`(y - loc) / scale`, cut off at -40 and 40.

    Density and tail are constant beyond these points, in any dtype. The cut
    keeps the slope of a quotient that overflows out of their gradients.

    Args:
        y: Tensor of observations, float32 or float64.
        loc: Tensor of means.
        scale: Tensor of standard deviations; not positive: NaN.

    Returns:
        Tensor of the broadcast shape.
    """
    half, half_scale = half_difference(y, loc, nan_unless_positive(scale))
    far = ops.abs(half) >= _FAR * half_scale
    z = divide(ops.where(far, ops.zeros_like(half), half), half_scale)
    return ops.where(far, _FAR * ops.stop_gradient(ops.sign(half)), z)


def phi(z: Tensor) -> Tensor:
    """Density of the standard normal, `exp(-z^2 / 2) / sqrt(2 pi)`."""
    return math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * z * z)


def Phi(z: Tensor) -> Tensor:
    """Distribution function of the standard normal, exact in the lower tail."""
    return 0.5 * ops.erfc(-z * math.sqrt(0.5))


def mean_distance(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Expected distance of `y` from a normal number, in the unit of `y`.

    ```
    E|Y - y| = (y - loc) (2 Phi(z) - 1) + 2 scale phi(z),   z = (y - loc) / scale
    ```
    """
    z = standardise(y, loc, scale)
    return (y - loc) * (2.0 * Phi(z) - 1.0) + 2.0 * scale * phi(z)


def normal_log_prob(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
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


def normal_cdf(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
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
    return Phi(standardise(*widen(y, loc, scale)))


def normal_quantile(p: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
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
    return loc + nan_unless_positive(scale) * ndtri(p)


def normal_kl(
    loc: Tensor,
    scale: Tensor,
    prior_loc: Tensor | float = 0.0,
    prior_scale: Tensor | float = 1.0,
) -> Tensor:
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


def log_ndtr(z: Tensor) -> Tensor:
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
    return ops.where(lower, tail, ops.log1p(-Phi(-above)))


def log_ndtr_scaled(z: Tensor) -> Tensor:
    """`log_ndtr(z) + z^2 / 2`: the part left after the leading `-z^2 / 2` of the tail.

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
    # As many steps of the continued fraction as the edge needs.
    edge, steps = (-6.0, 24) if wide else (-4.0, 15)
    far = z < edge
    near = ops.where(far, -ops.ones_like(z), z)
    near_value = (0.5 * near) * near + ops.log(Phi(near))
    # phi(z) / Phi(z) = -z + 1 / (-z + 2 / (-z + 3 / ...)). Its gradient keeps the
    # digits of phi / Phi + z, in which the large terms cancel.
    away = -ops.where(far, z, edge * ops.ones_like(z))
    ratio = away
    for k in range(steps, 0, -1):
        ratio = away + k / ratio
    far_value = -ops.log(ratio) - 0.5 * math.log(2.0 * math.pi)
    return ops.where(far, far_value, near_value)
