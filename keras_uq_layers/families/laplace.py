import math

from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers.families.location_scale import LocationScale
from keras_uq_layers.registration import register


@register("families.Laplace")
class Laplace(LocationScale):
    """Laplace (double exponential) distribution with params `[loc | scale]`.

    ```
    log p(y) = -|y - loc| / scale - log(2 scale)
    ```

    `loc` is the mean and median, `scale` the mean absolute deviation, in the
    unit of `y`; the standard deviation is `sqrt(2) * scale`. Its likelihood
    minimises absolute errors: it is less moved by outliers than the normal.

    Example:

    >>> family = uq.families.Laplace()
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931
    """

    name = "laplace"

    def initial_parts(self, scale):
        return 0.0, scale / math.sqrt(2.0)

    def marginal_log_prob(self, y, params):
        return numerics.laplace_log_prob(self.align(y, params), *self.split(params))

    def variance(self, params):
        _, scale = self.split(params)
        return 2.0 * ops.square(scale)

    def cdf(self, y, params):
        return numerics.laplace_cdf(self.align(y, params), *self.split(params))

    def quantile(self, p, params):
        return numerics.laplace_quantile(p, *self.split(params))

    def crps(self, y, params):
        return numerics.laplace_crps(self.align(y, params), *self.split(params))

    def entropy(self, params):
        """Differential entropy of each output, in nats: `(..., D)`."""
        _, scale = self.split(params)
        return ops.log(scale) + math.log(2.0 * math.e)
