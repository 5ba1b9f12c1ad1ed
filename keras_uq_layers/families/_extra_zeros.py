"""Counts with zeros of their own: the part that two families share."""

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen

# In NumPy, the probability of a zero stays above 0.
_LOWEST_LOGIT = -700.0


def log_with_zero(log_part: Tensor, logit: Tensor) -> Tensor:
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
        return ops.where(lower <= 0, log_with_zero(counts, logit), positive)

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
        return {"base": families.serialize(self.base)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"


def _counts(identifier: Identifier) -> Family:
    """The family of that name or object, if it is one of counts."""
    family = families.get(identifier)
    if not family.discrete or isinstance(family, ClassFamily | ExtraZeros):
        raise arguments.error(
            "base", "a family of counts: 'poisson' or 'negative_binomial'", family
        )
    return family
