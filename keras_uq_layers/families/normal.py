import math

from keras import ops

from keras_uq_layers import _random
from keras_uq_layers import numerics
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._location_scale import LocationScale
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.normal import mean_distance
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register


def _crps(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`scale (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))`, z standardised.

    Reference:
        Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules, Prediction,
        and Estimation", JASA 102(477), doi:10.1198/016214506000001437.
    """
    scale = nan_unless_positive(scale)
    return mean_distance(y, loc, scale) - scale / math.sqrt(math.pi)


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

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 0.0, scale

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return numerics.normal_log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return normal_log_interval(lower, upper, *self.split(params))

    def variance(self, params: Tensor) -> Tensor:
        _, scale = self.split(params)
        return ops.square(scale)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return numerics.normal_cdf(self.align(y, params), *self.split(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import ndtr

        loc, scale = parts
        return ndtr((y - loc) / scale)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return numerics.normal_quantile(p, *self.split(params))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def entropy(self, params: Tensor) -> Tensor:
        """Differential entropy of each output, in nats: `(..., D)`."""
        _, scale = self.split(params)
        return ops.log(scale) + 0.5 * math.log(2.0 * math.pi * math.e)

    def draw_noise(
        self, shape: Shape, seed: Seed = None, dtype: str = "float32"
    ) -> Tensor:
        return _random.normal(shape, dtype, seed)

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        loc, scale = self.split(params)
        return loc + scale * noise
