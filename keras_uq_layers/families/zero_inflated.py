import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.intervals import log1m_exp
from keras_uq_layers.registration import register

# In NumPy, the probability of a zero stays above 0.
_LOWEST_LOGIT = -700.0
# The logarithm of the probability of what cannot be.
_NOTHING = -1e30


def _log_with_zero(log_part: Tensor, logit: Tensor) -> Tensor:
    """`log(pi + (1 - pi) part)` with `pi = sigmoid(logit)`.

    0, with a gradient of 0, where the part is 1.
    """
    # The larger of the two terms comes first: nothing cancels, whatever the logit.
    zeros = logit >= log_part
    from_zeros = ops.softplus(log_part - logit) - ops.softplus(-logit)
    from_part = log_part + ops.softplus(logit - log_part) - ops.softplus(logit)
    return ops.where(zeros, from_zeros, from_part)


class ExtraZeros(Family):
    """Abstract: zeros of their own, beside counts of a base family.

    With probability `pi = sigmoid(zero_logit)` the count is 0, else it comes from
    the *counts*: those of the base family, or its positive ones. A subclass says
    what these are.
    """

    lower = 0.0
    discrete = True

    def __init__(self, base: Identifier) -> None:
        self.base = _counts(base)
        self.parameters = (*self.base.parameters, "zero_logit")
        self.spread = self.base.spread

    def constrain_parts(self, *raw: Tensor, scale_floor: float) -> tuple[Tensor, ...]:
        *base, logit = raw
        return (*self.base.constrain_parts(*base, scale_floor=scale_floor), logit)

    def unconstrain_parts(
        self, *parts: Tensor, scale_floor: float
    ) -> tuple[Tensor, ...]:
        *base, logit = parts
        return (*self.base.unconstrain_parts(*base, scale_floor=scale_floor), logit)

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return (*self.base.initial_parts(scale), 0.0)

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """The params of the base family, and the log odds of a zero."""
        *parts, logit = self.split(params)
        return self.base.join(*parts), logit

    def _log_none(self, base: Tensor) -> Tensor:
        """The log probability of a 0 of the base family."""
        (first, *_) = self.base.split(base)
        return self.base.marginal_log_prob(ops.zeros_like(first), base)

    # Get the params of the base family.

    def _log_zero(self, base: Tensor, logit: Tensor) -> Tensor:
        """The log probability of a 0, from either source."""
        raise NotImplementedError

    def _log_counts(self, log_prob: Tensor, base: Tensor) -> Tensor:
        """Of a positive number among the counts, from that of the base family."""
        raise NotImplementedError

    def _log_count_interval(self, lower: Tensor, upper: Tensor, base: Tensor) -> Tensor:
        """The log probability that a count lies between two ends."""
        raise NotImplementedError

    def _count_moments(self, base: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the counts."""
        raise NotImplementedError

    def _count_cdf(self, y: Tensor, base: Tensor) -> Tensor:
        """The distribution function of the counts at `y >= 0`."""
        raise NotImplementedError

    def _count_quantile(self, p: Tensor, base: Tensor) -> Tensor:
        raise NotImplementedError

    def _array_count_cdf(self, y: Array, none: Array, *base: Array) -> Array:
        """The same on NumPy arrays, continuous between the whole numbers.

        `none` is the probability of a 0 of the base family.
        """
        raise NotImplementedError

    def _array_count_mass(self, mass: Array, none: Array) -> Array:
        """The probability of a positive count, from that of the base family."""
        raise NotImplementedError

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        y = self.align(y, params)
        base, logit = self._read(params)
        log_prob = self.base.marginal_log_prob(y, base)
        positive = self._log_counts(log_prob, base) - ops.softplus(logit)
        value = ops.where(y <= 0, self._log_zero(base, logit), positive)
        outside = self.outside_support(y) | (y >= np.inf)
        return ops.where(outside, ops.full_like(value, -np.inf), value)

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        lower, upper = widen(lower, upper)
        base, logit = self._read(params)
        counts = self._log_count_interval(lower, upper, base)
        positive = counts - ops.softplus(logit)
        return ops.where(lower <= 0, _log_with_zero(counts, logit), positive)

    def mean(self, params: Tensor) -> Tensor:
        base, logit = self._read(params)
        mean, _ = self._count_moments(base)
        return ops.sigmoid(-logit) * mean

    def variance(self, params: Tensor) -> Tensor:
        base, logit = self._read(params)
        mean, square = self._count_moments(base)
        share = ops.sigmoid(-logit)
        return larger(share * (square - share * ops.square(mean)), 0.0)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        y = self.align(y, params)
        base, logit = self._read(params)
        counts = self._count_cdf(y, base)
        value = ops.sigmoid(logit) + ops.sigmoid(-logit) * counts
        return ops.where(y < 0, ops.zeros_like(value), value)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        p, params = self._spread(p, widen(params))
        base, logit = self._read(params)
        zeros = ops.sigmoid(logit)
        # The level at which the counts are asked, where a 0 is not enough.
        some = p > zeros
        level = (p - zeros) / ops.sigmoid(-logit)
        level = ops.where(p < 1, smaller(level, 1.0), p)
        counts = self._count_quantile(ops.where(some, level, 0.5), base)
        return ops.where(some, counts, 0.0 * p)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import expit

        *base, logit = parts
        logit = np.maximum(logit, _LOWEST_LOGIT)
        none = self.base.array_cdf(np.zeros(()), *base)
        zeros = expit(logit) * np.clip(y + 1.0, 0.0, 1.0)
        return zeros + expit(-logit) * self._array_count_cdf(y, none, *base)

    def array_ratio(self, count: float, *parts: Array) -> Array:
        from scipy.special import expit

        *base, logit = parts
        ratio = self.base.array_ratio(count, *base)
        if count > 0.0:
            return ratio
        none = self.base.array_cdf(np.zeros(()), *base)
        first = expit(-logit) * self._array_count_mass(none * ratio, none)
        return first / self.array_cdf(np.zeros(()), *parts)

    def get_config(self) -> Config:
        from keras_uq_layers import families

        return {"base": families.serialize(self.base)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"


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
        return _log_with_zero(self._log_none(base), logit)

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


def _counts(identifier: Identifier) -> Family:
    """The family of that name or object, if it is one of counts."""
    # The list of families holds those of this file, too.
    from keras_uq_layers import families

    family = families.get(identifier)
    if not family.discrete or isinstance(family, ClassFamily | ExtraZeros):
        raise arguments.error(
            "base", "a family of counts: 'poisson' or 'negative_binomial'", family
        )
    return family
