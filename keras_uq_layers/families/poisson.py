import numpy as np

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register


@register("families.Poisson")
class Poisson(Family):
    """Poisson distribution of counts, with params `[rate]`.

    ```
    log p(y) = y log(rate) - rate - lgamma(y + 1)
    ```

    `rate` is the mean and the variance. Where the counts scatter more than
    that, see `NegativeBinomial`.

    Example:

    >>> family = uq.families.Poisson()
    >>> params = np.array([[2.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -2.0
    >>> float(family.quantile(0.5, params)[0, 0])
    2.0
    """

    name = "poisson"
    parameters = ("rate",)
    lower = 0.0
    discrete = True

    def constrain_parts(self, rate, *, scale_floor):
        return (positive(rate, POSITIVE_FLOOR),)

    def unconstrain_parts(self, rate, *, scale_floor):
        return (positive_inverse(rate, POSITIVE_FLOOR),)

    def initial_parts(self, scale):
        return (1.0,)

    def marginal_log_prob(self, y, params):
        return numerics.poisson_log_prob(self.align(y, params), *self.split(params))

    def mean(self, params):
        (rate,) = self.split(params)
        return rate

    def variance(self, params):
        return self.mean(params)

    def cdf(self, y, params):
        return numerics.poisson_cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y, rate):
        from scipy.special import gammaincc

        return gammaincc(np.maximum(y + 1.0, 0.0), rate)

    def crps(self, y, params):
        return numerics.poisson_crps(self.align(y, params), *self.split(params))
