from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._extra_zeros import ExtraZeros
from keras_uq_layers.families._extra_zeros import log_with_zero
from keras_uq_layers.registration import register


@register("families.ZeroInflated")
class ZeroInflated(ExtraZeros):
    """Counts with extra zeros, params `[those of the base | zero_logit]`.

    ```
    P(0) = pi + (1 - pi) p(0)
    P(y) = (1 - pi) p(y)           for y = 1, 2, ...
    ```

    with `pi = sigmoid(zero_logit)` and `p` the probabilities of the base family.
    A zero has two causes: nothing could be counted (`pi`), or nothing was. An
    example: the fish that visitors of a park caught, some of whom did not fish.
    `Hurdle` has one cause for all zeros.

    Args:
        base: Name or object of a family of counts: `"poisson"` or
            `"negative_binomial"`.

    Raises:
        ValueError: `base` is no family of counts.

    Example:

    >>> family = uq.families.ZeroInflated("poisson")
    >>> params = np.array([[2.0, 0.0]])  # rate, and log odds of an extra zero
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.5662
    >>> float(family.mean(params)[0, 0])
    1.0

    Reference:
        Lambert, 1992, "Zero-Inflated Poisson Regression, with an Application to
        Defects in Manufacturing", Technometrics 34(1), doi:10.2307/1269547.
    """

    name = "zero_inflated"

    def _log_zero(self, base: Tensor, logit: Tensor) -> Tensor:
        return log_with_zero(self._log_none(base), logit)

    def _log_counts(self, log_prob: Tensor, base: Tensor) -> Tensor:
        return log_prob

    def _log_count_interval(self, lower: Tensor, upper: Tensor, base: Tensor) -> Tensor:
        return self.base.log_interval_prob(lower, upper, base)

    def _count_moments(self, base: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.base.mean(base)
        return mean, self.base.variance(base) + ops.square(mean)

    def _count_cdf(self, y: Tensor, base: Tensor) -> Tensor:
        return self.base.cdf(y, base)

    def _count_quantile(self, p: Tensor, base: Tensor) -> Tensor:
        return self.base.quantile(p, base)

    def _array_count_cdf(self, y: Array, none: Array, *base: Array) -> Array:
        return self.base.array_cdf(y, *base)

    def _array_count_mass(self, mass: Array, none: Array) -> Array:
        return mass

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """`pi |y| + (1 - pi) crps(y) - pi (1 - pi) crps(0)` by those of the base."""
        y = self.align(y, params)
        base, logit = self._read(params)
        zeros, counts = ops.sigmoid(logit), ops.sigmoid(-logit)
        at_zero = self.base.crps(ops.zeros_like(y), base)
        score = self.base.crps(y, base)
        return zeros * ops.abs(y) + counts * (score - zeros * at_zero)
