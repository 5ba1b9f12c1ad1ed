import keras

from keras_uq_layers import numerics
from keras_uq_layers.families._bounded import BoundedNormal
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.registration import register


@register("families.CensoredNormal")
class CensoredNormal(BoundedNormal):
    """Normal clipped to bounds, with params `[loc | scale]` before clipping.

    ```
    Y = min(max(loc + scale * Z, lower), upper)
    log p(y) = log N(y; loc, scale)             between the bounds
             = log Phi((lower - loc) / scale)   at lower, likewise at upper
    ```

    Values pile up at the bounds: precipitation (many dry days, `y == 0`),
    cloud cover, saturated sensors. At a bound `log_prob` is the logarithm of
    a probability, elsewhere of a density. `mean` and `variance` are those of
    `y`, after clipping.

    The bounds are in the unit of `y`, also for a head that was adapted: that
    one moves `loc` and `scale` only.

    Args:
        lower: Lower bound, or None for none.
        upper: Upper bound, or None for none.

    Raises:
        ValueError: `lower` is not below `upper`.

    Example:

    >>> family = uq.families.CensoredNormal(lower=0.0)
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931

    Reference:
        Tobin, 1958, "Estimation of Relationships for Limited Dependent
        Variables", Econometrica 26(1), doi:10.2307/1907382.
    """

    name = "censored_normal"
    atoms = True

    def _arguments(self, params):
        return (*self.split(params), self.lower, self.upper)

    def _moments(self, params):
        return numerics.censored_normal_moments(*self._arguments(params))

    def marginal_log_prob(self, y, params):
        return numerics.censored_normal_log_prob(
            self.align(y, params), *self._arguments(params)
        )

    def cdf(self, y, params):
        return numerics.censored_normal_cdf(
            self.align(y, params), *self._arguments(params)
        )

    def quantile(self, p, params):
        value = numerics.normal_quantile(p, *self.split(params))
        return between(value, self.lower, self.upper)

    def crps(self, y, params):
        return numerics.censored_normal_crps(
            self.align(y, params), *self._arguments(params)
        )

    def draw_noise(self, shape, seed=None, dtype="float32"):
        return keras.random.normal(shape, dtype=dtype, seed=seed)

    def sample_from_noise(self, noise, params):
        loc, scale = self.split(params)
        return between(loc + scale * noise, self.lower, self.upper)
