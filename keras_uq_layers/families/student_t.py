import math
from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families._location_scale import LocationScale
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import lgamma
from keras_uq_layers.numerics import log_beta
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.betainc import betainc_tails
from keras_uq_layers.numerics.betainc import log_betainc_tails
from keras_uq_layers.numerics.division import divide_by_logs
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.intervals import log1m_exp
from keras_uq_layers.numerics.intervals import log_integral
from keras_uq_layers.numerics.intervals import log_interval
from keras_uq_layers.numerics.normal import Phi
from keras_uq_layers.numerics.normal import log_ndtr
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import betainc_value
from keras_uq_layers.numerics.special import has_betainc
from keras_uq_layers.registration import register

DF_FLOOR = 2.01
"""Smallest learned `df`: above 2, where the variance is finite."""

_INITIAL_DF = 5.0
_RAW_INITIAL_DF = _INITIAL_DF - DF_FLOOR + math.log1p(-math.exp(DF_FLOOR - _INITIAL_DF))
# From so many degrees of freedom on, an expansion about the normal is exact.
_MANY = 1e3


def _log_prob(y: Tensor, loc: Tensor, scale: Tensor, df: Tensor) -> Tensor:
    """`c(df) - log(2 pi) / 2 - log(scale) - (df + 1) / 2 log(1 + z^2 / df)`"""
    return (
        _log_normalizer(df)
        - HALF_LOG_TWO_PI
        - ops.log(scale)
        - 0.5 * (df + 1.0) * _log1p_square(y, loc, scale, df)
    )


def _log_normalizer(df: Tensor) -> Tensor:
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


def _log1p_square(y: Tensor, loc: Tensor | float, scale: Tensor, df: Tensor) -> Tensor:
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


def _cdf(
    y: Tensor, loc: Tensor, scale: Tensor, df: Tensor, *, differentiable: bool = True
) -> Tensor:
    """Distribution function, accurate in the lower tail.

    ```
    F(y) = betainc(df / 2, 1/2, df / (df + z^2)) / 2   where z < 0
    ```

    and `1 - F(-z)` above; from 1000 degrees of freedom on by Hill's expansion
    about the normal.

    Reference:
        Hill, 1970, "Algorithm 395: Student's t-distribution", CACM 13(10),
        doi:10.1145/355598.355599.
    """
    # By logarithms: where it is discarded, its slope may be infinite.
    z = divide_by_logs(*half_difference(y, loc, scale))
    df = df * ops.ones_like(z)
    z = z * ops.ones_like(df)
    if not differentiable and has_betainc():
        return _fast_cdf(z, df)
    # At the centre the square loses the sign and the slope: a straight line.
    centre = ops.abs(z) * ops.sqrt(1.0 + 1.0 / df) < 1e-4
    near = ops.where(centre, z, ops.zeros_like(z))
    one = ops.ones_like(z)
    density = ops.exp(_log_prob(near, 0.0 * one, one, df))
    line = 0.5 + near * density
    # Many degrees of freedom: the quantile of the normal, by Hill's expansion.
    many = df > _MANY
    normal = ops.where(many, z, one)
    normal_df = ops.where(many, df, _MANY * one)
    expanded = Phi(-_hill(normal, normal_df))
    df = ops.where(many, one, df)
    t = divide_by_logs(ops.where(centre, one, ops.abs(z)), ops.sqrt(df))
    remote = t > 1e9
    moderate = ops.where(remote, one, t)
    wide = moderate > 1.0
    u = ops.where(wide, 1.0 / ops.where(wide, moderate, one), moderate)
    lesser, greater = u * u / (1.0 + u * u), 1.0 / (1.0 + u * u)
    tail, _ = betainc_tails(
        0.5 * df,
        0.5 * one,
        ops.where(wide, lesser, greater),
        ops.where(wide, greater, lesser),
    )
    # Where the square of u would underflow, the leading term is exact.
    log_t = ops.log(ops.where(remote, t, one))
    power = ops.exp(-df * log_t - ops.log(0.5 * df) - log_beta(0.5 * df, 0.5 * one))
    tail = 0.5 * ops.where(remote, power, tail)
    tail = ops.where(many, expanded, tail)
    outer = ops.where(z < 0, tail, 1.0 - tail)
    return ops.where(centre, line, outer)


def _log_interval(
    lower: Tensor, upper: Tensor, loc: Tensor, scale: Tensor, df: Tensor
) -> Tensor:
    """`log(F(upper) - F(lower))`"""

    def log_tails(y: Tensor) -> tuple[Tensor, Tensor]:
        return _log_tails(y, loc, scale, df)

    def log_mass(first: Tensor, last: Tensor, wanted: Tensor) -> Tensor:
        one = ops.ones_like(loc)
        start = ops.where(wanted, first, loc)[..., None]
        length = ops.where(wanted, last - first, one)
        length = larger(length, float(finfo(length.dtype).tiny))
        centre, width = loc[..., None], ops.where(wanted, scale, one)[..., None]

        def log_density(t: Tensor) -> Tensor:
            return _log_prob(start + t, centre, width, df[..., None])

        return log_integral(log_density, length)

    return log_interval(lower, upper, loc, log_tails, log_mass)


def _log_tails(
    y: Tensor, loc: Tensor, scale: Tensor, df: Tensor
) -> tuple[Tensor, Tensor]:
    """`log F` and `log(1 - F)`, by the methods of `_cdf`."""
    difference, half_scale = half_difference(y, loc, scale)
    one = ops.ones_like(difference)
    root = ops.sqrt(df)
    distance = ops.abs(difference)
    log_t = ops.log(larger(distance, float(finfo(one.dtype).tiny)))
    log_t = log_t - ops.log(half_scale) - ops.log(root)
    centre = distance * ops.sqrt(1.0 + 1.0 / df) < 1e-4 * half_scale
    many, remote = df > _MANY, log_t > math.log(1e9)
    # At the centre, a straight line.
    near = divide(ops.where(centre, difference, 0.0 * one), half_scale)
    density = ops.exp(_log_prob(near, 0.0 * one, one, df))
    line = near * density
    # Many degrees of freedom.
    usual = ops.logical_not(centre | remote)
    z = divide(ops.where(usual, distance, half_scale), half_scale)
    normal = ops.where(many & usual, z, one)
    expanded = log_ndtr(-_hill(normal, ops.where(many, df, _MANY * one)))
    few = ops.where(many, one, df)
    t = ops.where(many, one, z / root)
    wide = t > 1.0
    u = ops.where(wide, 1.0 / ops.where(wide, t, one), t)
    lesser, greater = u * u / (1.0 + u * u), 1.0 / (1.0 + u * u)
    tail, _ = log_betainc_tails(
        0.5 * few,
        0.5 * one,
        ops.where(wide, lesser, greater),
        ops.where(wide, greater, lesser),
    )
    tail = ops.where(many, expanded, tail - math.log(2.0))
    power = -df * ops.where(remote, log_t, one) - ops.log(df)
    power = power - log_beta(0.5 * df, 0.5 * one)
    tail = ops.where(remote, power, tail)
    rest = log1m_exp(tail)
    below = difference < 0
    under, over = ops.where(below, tail, rest), ops.where(below, rest, tail)
    return (
        ops.where(centre, ops.log(0.5 + line), under),
        ops.where(centre, ops.log(0.5 - line), over),
    )


def _fast_cdf(z: Tensor, df: Tensor) -> Tensor:
    """The distribution function by a kernel of the backend, without gradients."""
    square = smaller(z * z, 1e30)
    x, complement = df / (df + square), square / (df + square)
    half = ops.full_like(df, 0.5)
    # Of the two tails of the beta the one is taken that is not close to 1.
    tail = ops.where(
        square > df,
        betainc_value(0.5 * df, half, x, complement),
        1.0 - betainc_value(half, 0.5 * df, complement, x),
    )
    normal = Phi(-_hill(z, larger(df, _MANY)))
    tail = ops.where(df > _MANY, normal, 0.5 * tail)
    return ops.where(z < 0, tail, 1.0 - tail)


def _hill(z: Tensor, df: Tensor) -> Tensor:
    """The normal number with the same tail probability, for a large df."""
    a = df - 0.5
    b = 48.0 * a * a
    y = a * _log1p_square(z, 0.0, ops.ones_like(z), df)
    # Numerator and denominator over the square of y, where that would overflow.
    unit = 1.0 / larger(y, 1.0)
    part = y * unit
    correction = ((-0.4 * y - 3.3) * part - 24.0 * unit) * part - 85.5 * unit * unit
    correction = correction / (0.8 * part * part + (100.0 + b) * unit * unit)
    correction = correction + y + 3.0
    # The square root has no gradient at 0, where the value is not used.
    return ops.sqrt(larger(y, 1e-30)) * (1.0 + correction / b)


def _crps(y: Tensor, loc: Tensor, scale: Tensor, df: Tensor) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = scale * (z (2 F(z) - 1) + 2 f(z) (df + z^2) / (df - 1)
         - 2 sqrt(df) / (df - 1) * B(1/2, df - 1/2) / B(1/2, df / 2)^2)
    ```

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    z = divide(*half_difference(y, loc, scale))
    one = ops.ones_like(z)
    cdf = _cdf(y, loc, scale, df)
    log_density = _log_prob(z, 0.0 * one, one, df)
    log_moment = log_density + ops.log(df) + _log1p_square(z, 0.0, one, df)
    half = 0.5 * one
    log_spread = (
        0.5 * ops.log(df) + log_beta(half, df - 0.5) - 2.0 * log_beta(half, 0.5 * df)
    )
    moments = ops.exp(log_moment) - ops.exp(log_spread)
    return (y - loc) * (2.0 * cdf - 1.0) + 2.0 * scale * moments / (df - 1.0)


@register("families.StudentT")
class StudentT(LocationScale):
    """Student's t distribution with params `[loc | scale | df]`.

    ```
    log p(y) = c(df) - log(scale) - (df + 1) / 2 * log(1 + z^2 / df)
    ```

    with `z = (y - loc) / scale`. `loc` is the median and mean, in the unit of
    `y`; the standard deviation is `scale * sqrt(df / (df - 2))`. Its tails
    are heavy: outliers move it far less than a normal. As `df` grows it
    becomes the normal.

    A learned `df` is above `families.student_t.DF_FLOOR` (2.01), so that the
    variance is finite. Where `df` is given, the params are `[loc | scale]`.

    Args:
        df: Degrees of freedom, a positive float, or None: one learned number
            for each output. With `df <= 2` there is no variance, with
            `df <= 1` no mean either: asking for them is an error.

    Raises:
        ValueError: `df` is not a positive finite number.

    Example:

    >>> family = uq.families.StudentT()
    >>> params = np.array([[0.0, 1.0, 5.0]])  # loc, scale, df
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.9686
    >>> uq.families.StudentT(df=4).params_size(1)
    2

    Reference:
        Lange, Little & Taylor, 1989, "Robust Statistical Modeling Using the t
        Distribution", JASA 84(408), doi:10.1080/01621459.1989.10478852.
    """

    name = "student_t"
    spread = ("scale", "df")

    def __init__(self, df: float | None = None) -> None:
        self.df = None if df is None else arguments.positive_float("df", df)
        self.parameters = ("loc", "scale", "df") if df is None else ("loc", "scale")

    def _read(self, params: Tensor) -> tuple[Tensor, ...]:
        parts = self.split(params)
        if self.df is None:
            return parts
        return (*parts, ops.full_like(parts[0], self.df))

    def constrain_parts(
        self,
        loc: Tensor,
        raw_scale: Tensor,
        raw_df: Tensor | None = None,
        *,
        scale_floor: float,
    ) -> tuple[Tensor, ...]:
        scale = positive(raw_scale, scale_floor)
        if raw_df is None:
            return loc, scale
        return loc, scale, positive(raw_df, DF_FLOOR)

    def unconstrain_parts(
        self,
        loc: Tensor,
        scale: Tensor,
        df: Tensor | None = None,
        *,
        scale_floor: float,
    ) -> tuple[Tensor, ...]:
        raw_scale = positive_inverse(scale, scale_floor)
        if df is None:
            return loc, raw_scale
        return loc, raw_scale, positive_inverse(df, DF_FLOOR)

    def parameterize_parts(
        self,
        location: Tensor,
        spread: Tensor,
        raw_df: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        parts = super().parameterize_parts(location, spread, **options)
        if raw_df is None:
            return parts
        return (*parts, positive(raw_df + _RAW_INITIAL_DF, DF_FLOOR))

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        if self.df is None:
            factor = math.sqrt((_INITIAL_DF - 2.0) / _INITIAL_DF)
            return 0.0, scale * factor, _INITIAL_DF
        if self.df > DF_FLOOR:
            return 0.0, scale * math.sqrt((self.df - 2.0) / self.df)
        return 0.0, scale

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self._read(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self._read(params))

    def mean(self, params: Tensor) -> Tensor:
        if self.df is not None and self.df <= 1:
            raise self._missing("mean", "the median `loc`, the quantile of 0.5,")
        return super().mean(params)

    def variance(self, params: Tensor) -> Tensor:
        if self.df is not None and self.df <= 2:
            raise self._missing("variance", "the distance of two quantiles")
        _, scale, df = self._read(params)
        finite = df > 2.0
        excess = ops.where(finite, df - 2.0, ops.ones_like(df))
        variance = ops.square(scale) * (1.0 + 2.0 / excess)
        return ops.where(finite, variance, ops.full_like(variance, np.inf))

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self._read(params))

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        # Of the standard distribution, from its median: the search is then
        # as fine at any loc and scale. The lower half is the accurate one.
        loc, scale, df = self._read(params)
        p = ops.cast(ops.convert_to_tensor(p), loc.dtype)
        standard = StudentT()
        unit = self.join(ops.zeros_like(loc), ops.ones_like(loc), df)
        z = Family.quantile(standard, smaller(p, 1.0 - p), unit)
        return loc + scale * ops.where(p <= 0.5, z, -z)

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self._read(params), differentiable=False)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import betainc

        loc, scale = parts[:2]
        df = parts[2] if self.df is None else np.float64(self.df)
        z = (y - loc) / scale
        # Of the two arguments that add up to 1, the smaller one is exact.
        tail = 0.5 * betainc(0.5 * df, 0.5, df / (df + z * z))
        return np.where(z < 0.0, tail, 1.0 - tail)

    def array_quantile(self, p: Array, *parts: Array) -> Array:
        from scipy.special import stdtrit

        loc, scale = parts[:2]
        df = parts[2] if self.df is None else np.float64(self.df)
        return loc + scale * stdtrit(df, p)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        if self.df is not None and self.df <= 1:
            raise self._missing("CRPS", "the `log_prob`")
        return _crps(self.align(y, params), *self._read(params))
