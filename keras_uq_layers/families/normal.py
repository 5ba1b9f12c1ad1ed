import math

import keras
from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers.families.location_scale import LocationScale
from keras_uq_layers.registration import register


@register("families.Normal")
class Normal(LocationScale):
    """Normal (Gaussian) distribution with params `[loc | scale]`.

    ```
    log p(y) = -((y - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2
    ```

    `loc` is the mean and `scale` the standard deviation, in the unit of `y`.

    Example:

    >>> family = uq.families.Normal()
    >>> params = np.array([[0.0, 1.0]])  # one position, one output: loc, scale
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.9189
    >>> round(float(family.quantile(0.975, params)[0, 0]), 2)
    1.96
    """

    name = "normal"

    def initial_parts(self, scale):
        return 0.0, scale

    def marginal_log_prob(self, y, params):
        return numerics.normal_log_prob(self.align(y, params), *self.split(params))

    def variance(self, params):
        _, scale = self.split(params)
        return ops.square(scale)

    def cdf(self, y, params):
        return numerics.normal_cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y, loc, scale):
        from scipy.special import ndtr

        return ndtr((y - loc) / scale)

    def quantile(self, p, params):
        return numerics.normal_quantile(p, *self.split(params))

    def crps(self, y, params):
        return numerics.normal_crps(self.align(y, params), *self.split(params))

    def entropy(self, params):
        """Differential entropy of each output, in nats: `(..., D)`."""
        _, scale = self.split(params)
        return ops.log(scale) + 0.5 * math.log(2.0 * math.pi * math.e)

    def draw_noise(self, shape, seed=None, dtype="float32"):
        return keras.random.normal(shape, dtype=dtype, seed=seed)

    def sample_from_noise(self, noise, params):
        loc, scale = self.split(params)
        return loc + scale * noise
