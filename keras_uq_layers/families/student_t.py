import math

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.registration import register

DF_FLOOR = 2.01
"""Smallest learned `df`: above 2, where the variance is finite."""

_INITIAL_DF = 5.0


@register("families.StudentT")
class StudentT(Family):
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
    target_unit = "affine"

    def __init__(self, df=None):
        self.df = None if df is None else arguments.positive_float("df", df)
        self.parameters = ("loc", "scale", "df") if df is None else ("loc", "scale")

    def _read(self, params):
        parts = self.split(params)
        if self.df is None:
            return parts
        return (*parts, ops.full_like(parts[0], self.df))

    def constrain_parts(self, loc, raw_scale, raw_df=None, *, scale_floor):
        scale = positive(raw_scale, scale_floor)
        if raw_df is None:
            return loc, scale
        return loc, scale, positive(raw_df, DF_FLOOR)

    def unconstrain_parts(self, loc, scale, df=None, *, scale_floor):
        raw_scale = positive_inverse(scale, scale_floor)
        if df is None:
            return loc, raw_scale
        return loc, raw_scale, positive_inverse(df, DF_FLOOR)

    def initial_parts(self, scale):
        if self.df is None:
            factor = math.sqrt((_INITIAL_DF - 2.0) / _INITIAL_DF)
            return 0.0, scale * factor, _INITIAL_DF
        if self.df > DF_FLOOR:
            return 0.0, scale * math.sqrt((self.df - 2.0) / self.df)
        return 0.0, scale

    def marginal_log_prob(self, y, params):
        return numerics.student_t_log_prob(self.align(y, params), *self._read(params))

    def mean(self, params):
        if self.df is not None and self.df <= 1:
            raise self._missing("mean", "`quantile(0.5, params)`, the median `loc`,")
        return self.split(params)[0]

    def variance(self, params):
        if self.df is not None and self.df <= 2:
            raise self._missing("variance", "the distance of two quantiles")
        _, scale, df = self._read(params)
        finite = df > 2.0
        excess = ops.where(finite, df - 2.0, ops.ones_like(df))
        variance = ops.square(scale) * (1.0 + 2.0 / excess)
        return ops.where(finite, variance, ops.full_like(variance, np.inf))

    def cdf(self, y, params):
        return numerics.student_t_cdf(self.align(y, params), *self._read(params))

    def quantile(self, p, params):
        # Of the standard distribution, from its median: the search is then
        # as fine at any loc and scale. The lower half is the accurate one.
        loc, scale, df = self._read(params)
        p = ops.cast(ops.convert_to_tensor(p), loc.dtype)
        standard = StudentT()
        unit = self.join(ops.zeros_like(loc), ops.ones_like(loc), df)
        z = Family.quantile(standard, smaller(p, 1.0 - p), unit)
        return loc + scale * ops.where(p <= 0.5, z, -z)

    def array_cdf(self, y, loc, scale, df=None):
        from scipy.special import betainc

        df, z = self.df if df is None else df, (y - loc) / scale
        # Of the two arguments that add up to 1, the smaller one is exact.
        tail = 0.5 * betainc(0.5 * df, 0.5, df / (df + z * z))
        return np.where(z < 0.0, tail, 1.0 - tail)

    def crps(self, y, params):
        if self.df is not None and self.df <= 1:
            raise self._missing("crps", "`log_prob`")
        return numerics.student_t_crps(self.align(y, params), *self._read(params))

    def affine(self, params, shift, factor):
        loc, scale, *df = self.split(params)
        return self.join(shift + factor * loc, factor * scale, *df)

    def get_config(self):
        return {"df": self.df}
