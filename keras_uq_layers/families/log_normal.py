import math

from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register


@register("families.LogNormal")
class LogNormal(Family):
    """Log-normal distribution of positive `y`, with params `[loc | scale]`.

    ```
    log p(y) = log N(log(y); loc, scale) - log(y)
    ```

    `loc` and `scale` are the mean and standard deviation of `log(y)`: the
    median of `y` is `exp(loc)`, its mean `exp(loc + scale^2 / 2)`. The scale
    floor of a head is one of `log(y)`, thus a relative one.

    Example:

    >>> family = uq.families.LogNormal()
    >>> params = np.array([[0.0, 1.0]])  # loc, scale of log(y)
    >>> round(float(family.log_prob(np.array([1.0]), params)[0]), 4)
    -0.9189
    >>> round(float(family.mean(params)[0, 0]), 4)
    1.6487
    """

    name = "log_normal"
    parameters = ("loc", "scale")
    lower = 0.0
    target_unit = "scale"

    def constrain_parts(self, loc, raw_scale, *, scale_floor):
        return loc, positive(raw_scale, scale_floor)

    def unconstrain_parts(self, loc, scale, *, scale_floor):
        return loc, positive_inverse(scale, scale_floor)

    def initial_parts(self, scale):
        # Mean 1 and that standard deviation.
        variance = math.log1p(scale**2)
        return -0.5 * variance, math.sqrt(variance)

    def marginal_log_prob(self, y, params):
        return numerics.log_normal_log_prob(self.align(y, params), *self.split(params))

    def mean(self, params):
        loc, scale = self.split(params)
        return ops.exp(loc + 0.5 * ops.square(scale))

    def variance(self, params):
        loc, scale = self.split(params)
        # mean^2 (exp(scale^2) - 1), with one exponential that overflows last.
        variance = ops.square(scale)
        return ops.exp(2.0 * loc + 2.0 * variance) * -ops.expm1(-variance)

    def cdf(self, y, params):
        return numerics.log_normal_cdf(self.align(y, params), *self.split(params))

    def quantile(self, p, params):
        return ops.exp(numerics.normal_quantile(p, *self.split(params)))

    def crps(self, y, params):
        return numerics.log_normal_crps(self.align(y, params), *self.split(params))

    def rescale(self, params, factor):
        loc, scale = self.split(params)
        return self.join(loc + ops.log(factor), scale)
