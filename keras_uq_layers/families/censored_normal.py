import math

import numpy as np
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers import numerics
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import truncated_normal
from keras_uq_layers.families._bounded import BoundedNormal
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.normal import Phi
from keras_uq_layers.numerics.normal import mean_distance
from keras_uq_layers.numerics.normal import phi
from keras_uq_layers.numerics.normal import standardise
from keras_uq_layers.numerics.normal_interval import log_Phi_of_ratio
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register


def _log_prob(
    y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float
) -> Tensor:
    """With respect to length plus a unit mass at each finite bound."""
    outside = (y < lower) | (y > upper)
    loc, scale = within_support(outside, loc, scale)
    at_lower, at_upper = y <= lower, y >= upper
    value = numerics.normal_log_prob(ops.where(at_lower | at_upper, loc, y), loc, scale)
    if np.isfinite(lower):
        above, half_scale = half_difference(lower, loc, scale)
        value = ops.where(
            at_lower, log_Phi_of_ratio(above, half_scale, at_lower), value
        )
    if np.isfinite(upper):
        below, half_scale = half_difference(loc, upper, scale)
        value = ops.where(
            at_upper, log_Phi_of_ratio(below, half_scale, at_upper), value
        )
    return ops.where(outside, ops.full_like(value, -np.inf), value)


def _cdf(y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float) -> Tensor:
    """0 below `lower`, `Phi((y - loc) / scale)` from there, 1 from `upper` on."""
    value = numerics.normal_cdf(y, loc, scale)
    value = ops.where(y < lower, ops.zeros_like(value), value)
    return ops.where(y >= upper, ops.ones_like(value), value)


def _crps(y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = |y - x| + A(x) + L (L (loc - lower) - 2 scale phi(l))
         + U (U (upper - loc) - 2 scale phi(u))
         - scale (Phi(sqrt(2) u) - Phi(sqrt(2) l)) / sqrt(pi)
    A(x) = (x - loc) (2 Phi(z) - 1) + 2 scale phi(z)
    ```

    with `x` the value of `y` clipped to the bounds; `z`, `l`, `u` the
    standardised `x`, `lower` and `upper`; `L = Phi(l)` and `U = 1 - Phi(u)`.

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    x = between(y, lower, upper)
    value = ops.abs(y - x) + mean_distance(x, loc, scale)
    inner = ops.ones_like(value)
    for bound, side in ((lower, -1.0), (upper, 1.0)):
        if np.isfinite(bound):
            # The distance of the bound, positive where the centre is inside.
            distance = side * (bound - loc)
            z = standardise(side * bound, side * loc, scale)
            mass = Phi(-z)
            value = value + mass * (distance * mass - 2.0 * scale * phi(z))
            inner = inner - Phi(-math.sqrt(2.0) * z)
    return value - scale * inner / math.sqrt(math.pi)


def _moments(
    loc: Tensor, scale: Tensor, lower: float, upper: float
) -> tuple[Tensor, Tensor]:
    """Mean, in the unit of `y`, and variance.

    The part between the bounds is a truncated normal. The law of total
    variance puts the three parts together without a cancellation.
    """
    inner_mean, inner_variance = truncated_normal.moments(loc, scale, lower, upper)
    parts, inner = [], ops.ones_like(inner_mean)
    for bound, side in ((lower, -1.0), (upper, 1.0)):
        if np.isfinite(bound):
            mass = Phi(-standardise(side * bound, side * loc, scale))
            parts.append((mass, bound))
            inner = inner - mass
    inner = larger(inner, 0.0)
    mean = inner * inner_mean + sum(mass * bound for mass, bound in parts)
    variance = inner * (inner_variance + ops.square(inner_mean - mean))
    variance = variance + sum(mass * ops.square(b - mean) for mass, b in parts)
    return mean, variance


def _log_interval(
    first: Tensor, last: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float
) -> Tensor:
    """An interval that reaches a bound holds all that was clipped to it."""
    first = ops.where(first <= lower, -np.inf, first)
    last = ops.where(last >= upper, np.inf, last)
    return normal_log_interval(first, last, loc, scale)


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

    def _moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return _moments(*self._read(params))

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self._read(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self._read(params))

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self._read(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import ndtr

        loc, scale = parts
        inside = np.where(y < self.lower, 0.0, ndtr((y - loc) / scale))
        return np.where(y >= self.upper, 1.0, inside)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        value = numerics.normal_quantile(p, *self.split(params))
        return between(value, self.lower, self.upper)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self._read(params))

    def draw_noise(
        self, shape: Shape, seed: Seed = None, dtype: str = "float32"
    ) -> Tensor:
        return _random.normal(shape, dtype, seed)

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        loc, scale = self.split(params)
        return between(loc + scale * noise, self.lower, self.upper)
