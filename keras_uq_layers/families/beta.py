import numpy as np

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.registration import register


@register("families.Beta")
class Beta(Family):
    """Beta distribution of rates in (0, 1), with params `[alpha | beta]`.

    ```
    log p(y) = (alpha - 1) log(y) + (beta - 1) log(1 - y) - log B(alpha, beta)
    ```

    The mean is `alpha / (alpha + beta)`; large parameters make it narrow. The
    interval is open: rates of exactly 0 or 1 have no likelihood, move them
    inside (`(y * (n - 1) + 0.5) / n` for `n` examples, as Smithson and
    Verkuilen do) or use a `CensoredNormal(0, 1)`.

    Example:

    >>> family = uq.families.Beta()
    >>> params = np.array([[2.0, 2.0]])
    >>> round(float(family.log_prob(np.array([0.5]), params)[0]), 4)
    0.4055

    Reference:
        Smithson & Verkuilen, 2006, "A better lemon squeezer?", Psychological
        Methods 11(1), doi:10.1037/1082-989X.11.1.54.
    """

    name = "beta"
    parameters = ("alpha", "beta")
    lower = 0.0
    upper = 1.0

    def constrain_parts(self, alpha, beta, *, scale_floor):
        return positive(alpha, POSITIVE_FLOOR), positive(beta, POSITIVE_FLOOR)

    def unconstrain_parts(self, alpha, beta, *, scale_floor):
        return (
            positive_inverse(alpha, POSITIVE_FLOOR),
            positive_inverse(beta, POSITIVE_FLOOR),
        )

    def initial_parts(self, scale):
        return 1.0, 1.0

    def marginal_log_prob(self, y, params):
        return numerics.beta_log_prob(self.align(y, params), *self.split(params))

    def mean(self, params):
        alpha, beta = self.split(params)
        return alpha / (alpha + beta)

    def variance(self, params):
        alpha, beta = self.split(params)
        total = alpha + beta
        return (alpha / total) * (beta / total) / (total + 1.0)

    def cdf(self, y, params):
        y = between(self.align(y, params), 0.0, 1.0)
        return numerics.betainc(*self.split(params), y)

    def array_cdf(self, y, alpha, beta):
        from scipy.special import betainc

        return betainc(alpha, beta, np.clip(y, 0.0, 1.0))

    def crps(self, y, params):
        return numerics.beta_crps(self.align(y, params), *self.split(params))
