import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._extra_zeros import ExtraZeros
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.intervals import log1m_exp
from keras_uq_layers.registration import register

# The logarithm of the probability of what cannot be.
_NOTHING = -1e30


@register("families.Hurdle")
class Hurdle(ExtraZeros):
    """Counts behind a hurdle, with params `[those of the base | zero_logit]`.

    ```
    P(0) = pi
    P(y) = (1 - pi) p(y) / (1 - p(0))   for y = 1, 2, ...
    ```

    with `pi = sigmoid(zero_logit)` and `p` the probabilities of the base family.
    One question decides whether the count is 0, another how large it is
    otherwise. An example: whether a patient sees a doctor, and how often. There
    may be fewer zeros than the base family has, or more. `ZeroInflated` has two
    causes for a zero.

    Args:
        base: Name or object of a family of counts: `"poisson"` or
            `"negative_binomial"`.

    Raises:
        ValueError: `base` is no family of counts.

    Example:

    >>> family = uq.families.Hurdle("poisson")
    >>> params = np.array([[2.0, 0.0]])  # rate, and log odds of a zero
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931

    Reference:
        Mullahy, 1986, "Specification and Testing of Some Modified Count Data
        Models", J. Econometrics 33(3), doi:10.1016/0304-4076(86)90002-3.
    """

    name = "hurdle"

    def _log_zero(self, base: Tensor, logit: Tensor) -> Tensor:
        return -ops.softplus(-logit)

    def _log_counts(self, log_prob: Tensor, base: Tensor) -> Tensor:
        return log_prob - log1m_exp(self._log_none(base))

    def _log_count_interval(self, lower: Tensor, upper: Tensor, base: Tensor) -> Tensor:
        nothing, whole = upper < 1, (lower <= 1) & (upper >= np.inf)
        first, last = larger(lower, 1.0), ops.where(nothing, np.inf, upper)
        value = self.base.log_interval_prob(first, last, base)
        value = value - log1m_exp(self._log_none(base))
        value = ops.where(whole, ops.zeros_like(value), value)
        # So little that it changes no sum, with a finite slope.
        return ops.where(nothing, ops.full_like(value, _NOTHING), value)

    def _count_moments(self, base: Tensor) -> tuple[Tensor, Tensor]:
        some = ops.exp(log1m_exp(self._log_none(base)))
        mean = self.base.mean(base)
        square = self.base.variance(base) + ops.square(mean)
        return mean / some, square / some

    def _count_cdf(self, y: Tensor, base: Tensor) -> Tensor:
        # Not F(y) - p(0), two numbers close to 1 where nearly all counts are 0.
        first = ops.ones_like(y)
        log_positive = self._log_count_interval(first, larger(y, 1.0), base)
        positive = ops.exp(smaller(log_positive, 0.0))
        return ops.where(y < 1, ops.zeros_like(positive), positive)

    def _count_quantile(self, p: Tensor, base: Tensor) -> Tensor:
        log_none = self._log_none(base)
        some = ops.exp(log1m_exp(log_none))
        level = smaller(ops.exp(log_none) + some * p, 1.0)
        return larger(self.base.quantile(level, base), 1.0)

    def _array_count_cdf(self, y: Array, none: Array, *base: Array) -> Array:
        return np.maximum(self.base.array_cdf(y, *base) - none, 0.0) / (1.0 - none)

    def _array_count_mass(self, mass: Array, none: Array) -> Array:
        return mass / (1.0 - none)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """By that of the base, which is zero-inflated positive counts itself."""
        y = self.align(y, params)
        base, logit = self._read(params)
        zeros, counts = ops.sigmoid(logit), ops.sigmoid(-logit)
        log_none = self._log_none(base)
        none, some = ops.exp(log_none), ops.exp(log1m_exp(log_none))
        at_zero = self.base.crps(ops.zeros_like(y), base) / some
        score = (self.base.crps(y, base) - none * (ops.abs(y) - at_zero)) / some
        return zeros * ops.abs(y) + counts * (score - zeros * at_zero / some)
