import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._positive import PositiveParams
from keras_uq_layers.numerics import gammaincc
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.betainc import betainc_tails
from keras_uq_layers.numerics.betainc import log_betainc_tails
from keras_uq_layers.numerics.dtypes import floor
from keras_uq_layers.numerics.intervals import log_interval_of_counts
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.registration import register

# How much larger than its counts a total count must be to be treated as such.
_MANY = 1e4


def _log_prob(y: Tensor, mean: Tensor, total_count: Tensor) -> Tensor:
    """In Loader's saddle-point form, in which nothing cancels.

    Reference:
        Loader, 2000, "Fast and Accurate Computation of Binomial
        Probabilities", Bell Laboratories.
    """
    outside = (y < 0) | (y > floor(y)) | (y >= np.inf)
    mean, total_count = within_support(outside, mean, total_count)
    none = outside | (y <= 0)
    inside = ops.where(
        none, _log_none(none, mean, total_count), _log_some(none, y, mean, total_count)
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _log_some(none: Tensor, y: Tensor, mean: Tensor, total_count: Tensor) -> Tensor:
    """The log probability of a count from 1 on."""
    count, mean, total_count = within_support(none, y, mean, total_count)
    # The expected numbers of both kinds among total_count + count trials, and
    # by how much they differ from the actual ones.
    log_total, log_mean = ops.log(total_count), ops.log(mean)
    log_trials = ops.log(total_count + count) - ops.log(total_count + mean)
    trials = ops.exp(log_trials)
    excess = total_count / (total_count + mean) * (count - mean)
    return (
        -deviance(total_count, trials * total_count, excess, log_trials + log_total)
        - deviance(count, trials * mean, -excess, log_trials + log_mean)
        - (
            stirling_error(total_count)
            + stirling_error(count)
            - stirling_error(total_count + count)
        )
        - HALF_LOG_TWO_PI
        - 0.5 * ops.log(count)
        + 0.5 * (log_total - ops.log(total_count + count))
    )


def _log_none(none: Tensor, mean: Tensor, total_count: Tensor) -> Tensor:
    """`-r log(1 + mean / r)`, the log probability of 0; the ratio may overflow."""
    mean, total_count = within_support(ops.logical_not(none), mean, total_count)
    return -total_count * ops.softplus(ops.log(mean) - ops.log(total_count))


def _cdf(
    y: Tensor, mean: Tensor, total_count: Tensor, *, differentiable: bool = True
) -> Tensor:
    """`betainc(r, floor(y) + 1, r / (r + mean))`"""
    below = y < 0
    count = floor(ops.where(below, ops.zeros_like(y), y)) + 1.0
    trials = total_count + mean
    inside, _ = betainc_tails(
        total_count,
        ops.stop_gradient(count),
        total_count / trials,
        mean / trials,
        differentiable,
    )
    if not differentiable:
        # The kernels of the backends lose their digits to a large total count.
        # There the distribution is nearly Poisson; the correction is of second
        # order in (count + mean) / total_count.
        many = total_count > _MANY * (count + mean)
        some = ops.where(many, count, ops.ones_like(count))
        rate = (total_count + 0.5 * (some - 1.0)) * ops.log1p(mean / total_count)
        inside = ops.where(many, gammaincc(some, rate, differentiable), inside)
    return ops.where(below, ops.zeros_like(inside), inside)


def _log_interval(
    lower: Tensor, upper: Tensor, mean: Tensor, total_count: Tensor
) -> Tensor:
    trials = total_count + mean
    log_odds = ops.log(mean) - ops.log(total_count)
    logs = -ops.softplus(log_odds), -ops.softplus(-log_odds)

    def log_tails(count: Tensor) -> tuple[Tensor, Tensor]:
        count = ops.stop_gradient(count + 1.0)
        return log_betainc_tails(
            total_count, count, total_count / trials, mean / trials, logs
        )

    def log_prob(counts: Tensor) -> Tensor:
        return _log_prob(counts, mean[..., None], total_count[..., None])

    return log_interval_of_counts(lower, upper, log_tails, log_prob)


@register("families.NegativeBinomial")
class NegativeBinomial(PositiveParams):
    """Counts that scatter more than Poisson, params `[mean | total_count]`.

    ```
    log p(y) = lgamma(y + r) - lgamma(r) - lgamma(y + 1)
             + r log(r / (r + mean)) + y log(mean / (r + mean))
    ```

    with `r` the total count, any positive number: the variance is
    `mean + mean^2 / r`. As `r` grows it becomes the Poisson distribution.

    Example:

    >>> family = uq.families.NegativeBinomial()
    >>> params = np.array([[1.0, 1.0]])  # mean, total_count: geometric
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.6931
    >>> float(family.variance(params)[0, 0])
    2.0
    """

    name = "negative_binomial"
    parameters = ("mean", "total_count")
    spread = ("total_count",)
    lower = 0.0
    discrete = True

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 1.0, 1.0

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        mean, _ = self.split(params)
        return mean

    def variance(self, params: Tensor) -> Tensor:
        mean, total_count = self.split(params)
        return mean + mean * (mean / total_count)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params), differentiable=False)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import betainc
        from scipy.special import betaincc

        count = np.maximum(y + 1.0, 0.0)
        count, mean, total_count = np.broadcast_arrays(count, *parts)
        trials = total_count + mean
        value = np.array(betainc(total_count, count, total_count / trials))
        # Where that share would round to 1, by the other one: ten times slower.
        few = mean < 1e-3 * total_count
        share = mean[few] / trials[few]
        value[few] = betaincc(count[few], total_count[few], share)
        return value

    def array_ratio(self, count: float, *parts: Array) -> Array:
        mean, total_count = parts
        return (total_count + count) / (count + 1.0) * (mean / (total_count + mean))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        raise self._no_closed_form("CRPS", "the `log_prob`, or the CRPS of draws")
