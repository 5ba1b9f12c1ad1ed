import numpy as np

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register


@register("families.Gamma")
class Gamma(Family):
    """Gamma distribution of positive `y`, with params `[mean | concentration]`.

    ```
    log p(y) = k log(k / mean) + (k - 1) log(y) - k y / mean - lgamma(k)
    ```

    with `k` the concentration, which has no unit: the standard deviation is
    `mean / sqrt(k)`. `mean` is in the unit of `y`. The rate of other
    libraries is `k / mean`, their scale `mean / k`.

    Example:

    >>> family = uq.families.Gamma()
    >>> params = np.array([[2.0, 1.0]])  # mean, concentration: exponential
    >>> round(float(family.log_prob(np.array([2.0]), params)[0]), 4)
    -1.6931
    """

    name = "gamma"
    parameters = ("mean", "concentration")
    lower = 0.0
    target_unit = "scale"

    def constrain_parts(self, mean, concentration, *, scale_floor):
        return (
            positive(mean, POSITIVE_FLOOR),
            positive(concentration, POSITIVE_FLOOR),
        )

    def unconstrain_parts(self, mean, concentration, *, scale_floor):
        return (
            positive_inverse(mean, POSITIVE_FLOOR),
            positive_inverse(concentration, POSITIVE_FLOOR),
        )

    def initial_parts(self, scale):
        return 1.0, scale**-2

    def marginal_log_prob(self, y, params):
        return numerics.gamma_log_prob(self.align(y, params), *self.split(params))

    def mean(self, params):
        mean, _ = self.split(params)
        return mean

    def variance(self, params):
        mean, concentration = self.split(params)
        return mean * (mean / concentration)

    def cdf(self, y, params):
        return numerics.gamma_cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y, mean, concentration):
        from scipy.special import gammainc

        return gammainc(concentration, concentration * (np.maximum(y, 0.0) / mean))

    def crps(self, y, params):
        return numerics.gamma_crps(self.align(y, params), *self.split(params))

    def rescale(self, params, factor):
        mean, concentration = self.split(params)
        return self.join(factor * mean, concentration)
