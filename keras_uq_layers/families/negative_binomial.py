import numpy as np

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register


@register("families.NegativeBinomial")
class NegativeBinomial(Family):
    """Counts that scatter more than Poisson, params `[mean | total_count]`.

    ```
    log p(y) = lgamma(y + r) - lgamma(r) - lgamma(y + 1)
             + r log(r / (r + mean)) + y log(mean / (r + mean))
    ```

    with `r` the total count, any positive number: the variance is
    `mean + mean^2 / r`. As `r` grows it becomes the Poisson distribution.

    Example:

    >>> family = uq.families.NegativeBinomial()
    >>> params = np.array([[1.0, 1.0]])  # mean, total_count: geometric
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931
    >>> float(family.variance(params)[0, 0])
    2.0
    """

    name = "negative_binomial"
    parameters = ("mean", "total_count")
    lower = 0.0
    discrete = True

    def constrain_parts(self, mean, total_count, *, scale_floor):
        return positive(mean, POSITIVE_FLOOR), positive(total_count, POSITIVE_FLOOR)

    def unconstrain_parts(self, mean, total_count, *, scale_floor):
        return (
            positive_inverse(mean, POSITIVE_FLOOR),
            positive_inverse(total_count, POSITIVE_FLOOR),
        )

    def initial_parts(self, scale):
        return 1.0, 1.0

    def marginal_log_prob(self, y, params):
        return numerics.negative_binomial_log_prob(
            self.align(y, params), *self.split(params)
        )

    def mean(self, params):
        mean, _ = self.split(params)
        return mean

    def variance(self, params):
        mean, total_count = self.split(params)
        return mean + mean * (mean / total_count)

    def cdf(self, y, params):
        return numerics.negative_binomial_cdf(
            self.align(y, params), *self.split(params)
        )

    def array_cdf(self, y, mean, total_count):
        from scipy.special import betainc

        share = total_count / (total_count + mean)
        return betainc(total_count, np.maximum(y + 1.0, 0.0), share)
