"""Student's t distribution. `loc` and `scale` are in the unit of `y`."""

import math

from keras import ops

from keras_uq_layers.numerics.beta import betainc_tails
from keras_uq_layers.numerics.beta import log_beta
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.root import values_only
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import betainc_value
from keras_uq_layers.numerics.special import has_betainc
from keras_uq_layers.numerics.special import lgamma

_MANY = 1e3


def student_t_log_prob(y, loc, scale, df):
    """Log density of Student's t distribution, in nats.

    ```
    log p(y) = lgamma((df + 1) / 2) - lgamma(df / 2) - log(pi df) / 2
             - log(scale) - (df + 1) / 2 * log(1 + z^2 / df)
    ```

    with `z = (y - loc) / scale`.

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of scales, positive; the standard deviation is
            `scale * sqrt(df / (df - 2))`.
        df: Tensor of degrees of freedom, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(student_t_log_prob(0.0, 0.0, 1.0, 1.0)), 4)
    -1.1447
    """
    y, loc, scale, df = widen(y, loc, scale, df)
    return (
        _log_normalizer(df)
        - HALF_LOG_TWO_PI
        - ops.log(scale)
        - 0.5 * (df + 1.0) * _log1p_square(y, loc, scale, df)
    )


def _log_normalizer(df):
    """`lgamma((df + 1) / 2) - lgamma(df / 2) - log(df / 2) / 2`"""
    few = df < 1.0
    # What remains is small for large df, where the terms are not: Stirling.
    many = 0.5 * ops.where(few, ops.ones_like(df), df)
    large = (
        many * log1p_minus(0.5 / many)
        + stirling_error(many + 0.5)
        - stirling_error(many)
    )
    # lgamma(half) is lgamma(1 + half) - log(half): one pole instead of two.
    half = 0.5 * ops.where(few, df, ops.ones_like(df))
    small = lgamma(half + 0.5) - lgamma(half + 1.0) + 0.5 * ops.log(half)
    return ops.where(few, small, large)


def _log1p_square(y, loc, scale, df):
    """`log(1 + z^2 / df)`, where the square or z itself overflows, too."""
    difference, half_scale = half_difference(y, loc, scale)
    distance, root = ops.abs(difference), ops.sqrt(df)
    # By logarithms: the product of a scale and a root may underflow.
    far = ops.log(distance) - ops.log(half_scale) - ops.log(root) > 20.0
    near = ops.where(far, ops.zeros_like(difference), difference)
    t = divide(near, half_scale) / root
    distance = ops.where(far, distance, ops.ones_like(distance))
    log_t = ops.log(distance) - ops.log(half_scale) - ops.log(root)
    return ops.where(far, 2.0 * log_t, ops.log1p(t * t))


def student_t_cdf(y, loc, scale, df):
    """Distribution function of Student's t, accurate in the lower tail.

    ```
    F(y) = betainc(df / 2, 1/2, df / (df + z^2)) / 2   where z < 0
    ```

    with `z = (y - loc) / scale`, and `1 - F(-z)` above; from 1000 degrees of
    freedom on by Hill's expansion about the normal.

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of scales, positive.
        df: Tensor of degrees of freedom, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(student_t_cdf(1.0, 0.0, 1.0, 1.0)), 4)
    0.75

    Reference:
        Hill, 1970, "Algorithm 395: Student's t-distribution", CACM 13(10),
        doi:10.1145/355598.355599.
    """
    y, loc, scale, df = widen(y, loc, scale, df)
    z = divide(*half_difference(y, loc, scale))
    df = df * ops.ones_like(z)
    z = z * ops.ones_like(df)
    if values_only() and has_betainc():
        return _cdf_value(z, df)
    # At the centre the square loses the sign and the slope: a straight line.
    centre = ops.abs(z) * ops.sqrt(1.0 + 1.0 / df) < 1e-4
    near = ops.where(centre, z, ops.zeros_like(z))
    one = ops.ones_like(z)
    density = ops.exp(student_t_log_prob(near, 0.0 * one, one, df))
    line = 0.5 + near * density
    # Many degrees of freedom: the quantile of the normal, by Hill's expansion.
    many = df > _MANY
    normal = ops.where(many, z, one)
    normal_df = ops.where(many, df, _MANY * one)
    expanded = 0.5 * ops.erfc(math.sqrt(0.5) * _hill(normal, normal_df))
    df = ops.where(many, one, df)
    t = ops.where(centre, one, ops.abs(z)) / ops.sqrt(df)
    wide = t > 1.0
    u = ops.where(wide, 1.0 / ops.where(wide, t, one), t)
    lesser, greater = u * u / (1.0 + u * u), 1.0 / (1.0 + u * u)
    tail, _ = betainc_tails(
        0.5 * df,
        0.5 * one,
        ops.where(wide, lesser, greater),
        ops.where(wide, greater, lesser),
    )
    # Where the square of u would underflow, the leading term is exact.
    remote = t > 1e9
    log_t = ops.log(ops.where(remote, t, one))
    power = ops.exp(-df * log_t - ops.log(0.5 * df) - log_beta(0.5 * df, 0.5 * one))
    tail = 0.5 * ops.where(remote, power, tail)
    tail = ops.where(many, expanded, tail)
    outer = ops.where(z < 0, tail, 1.0 - tail)
    return ops.where(centre, line, outer)


def _cdf_value(z, df):
    """The distribution function without gradients, for a root search: short."""
    square = smaller(z * z, 1e30)
    x, complement = df / (df + square), square / (df + square)
    half = ops.full_like(df, 0.5)
    # Of the two tails of the beta the one is taken that is not close to 1.
    tail = ops.where(
        square > df,
        betainc_value(0.5 * df, half, x),
        1.0 - betainc_value(half, 0.5 * df, complement),
    )
    normal = ops.erfc(math.sqrt(0.5) * _hill(z, larger(df, _MANY)))
    tail = 0.5 * ops.where(df > _MANY, normal, tail)
    return ops.where(z < 0, tail, 1.0 - tail)


def _hill(z, df):
    """The normal number with the same tail probability, for a large df."""
    a = df - 0.5
    b = 48.0 * a * a
    y = a * _log1p_square(z, 0.0, ops.ones_like(z), df)
    correction = ((-0.4 * y - 3.3) * y - 24.0) * y - 85.5
    correction = correction / (0.8 * y * y + 100.0 + b) + y + 3.0
    # The square root has no gradient at 0, where the value is not used.
    return ops.sqrt(larger(y, 1e-30)) * (1.0 + correction / b)


def student_t_crps(y, loc, scale, df):
    """Continuous ranked probability score of Student's t, in the unit of `y`.

    ```
    crps = scale * (z (2 F(z) - 1) + 2 f(z) (df + z^2) / (df - 1)
         - 2 sqrt(df) / (df - 1) * B(1/2, df - 1/2) / B(1/2, df / 2)^2)
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of scales, positive.
        df: Tensor of degrees of freedom, above 1.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(student_t_crps(0.0, 0.0, 1.0, 5.0)), 4)
    0.257

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    y, loc, scale, df = widen(y, loc, scale, df)
    z = divide(*half_difference(y, loc, scale))
    one = ops.ones_like(z)
    cdf = student_t_cdf(y, loc, scale, df)
    log_density = student_t_log_prob(z, 0.0 * one, one, df)
    log_moment = log_density + ops.log(df) + _log1p_square(z, 0.0, ops.ones_like(z), df)
    half = 0.5 * one
    log_spread = (
        0.5 * ops.log(df) + log_beta(half, df - 0.5) - 2.0 * log_beta(half, 0.5 * df)
    )
    moments = ops.exp(log_moment) - ops.exp(log_spread)
    return (y - loc) * (2.0 * cdf - 1.0) + 2.0 * scale * moments / (df - 1.0)
