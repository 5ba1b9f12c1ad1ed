import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._positive import PositiveParams
from keras_uq_layers.numerics import gammaincc
from keras_uq_layers.numerics.dtypes import floor
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.gammainc import log_gammainc_tails
from keras_uq_layers.numerics.intervals import log_interval_of_counts
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import i0e
from keras_uq_layers.numerics.special import i1e
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, rate: Tensor) -> Tensor:
    """In Loader's saddle-point form, in which nothing cancels.

    Reference:
        Loader, 2000, "Fast and Accurate Computation of Binomial
        Probabilities", Bell Laboratories.
    """
    outside = (y < 0) | (y > floor(y)) | (y >= np.inf)
    none = outside | (y <= 0)
    count = ops.where(none, ops.ones_like(y), y)
    some = (
        -deviance(count, rate)
        - stirling_error(count)
        - HALF_LOG_TWO_PI
        - 0.5 * ops.log(count)
    )
    inside = ops.where(none, -rate, some)
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _cdf(y: Tensor, rate: Tensor, *, differentiable: bool = True) -> Tensor:
    """`gammaincc(floor(y) + 1, rate)`"""
    below = y < 0
    count = floor(ops.where(below, ops.zeros_like(y), y)) + 1.0
    one = ops.ones_like(count * rate)
    inside = gammaincc(ops.stop_gradient(count * one), rate * one, differentiable)
    return ops.where(below, ops.zeros_like(inside), inside)


def _log_interval(lower: Tensor, upper: Tensor, rate: Tensor) -> Tensor:
    def log_tails(count: Tensor) -> tuple[Tensor, Tensor]:
        above, until = log_gammainc_tails(ops.stop_gradient(count + 1.0), rate)
        return until, above

    def log_prob(counts: Tensor) -> Tensor:
        return _log_prob(counts, rate[..., None])

    return log_interval_of_counts(lower, upper, log_tails, log_prob)


def _crps(y: Tensor, rate: Tensor) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = (y - rate) (2 F(y) - 1) + 2 rate p(floor(y))
         - rate exp(-2 rate) (I0(2 rate) + I1(2 rate))
    ```

    Below 0 the distance to 0 is added.

    Reference:
        Wei & Held, 2014, "Calibration tests for count data", TEST 23(4),
        doi:10.1007/s11749-014-0380-8.
    """
    inside = larger(y, 0.0)
    value = (
        (inside - rate) * (2.0 * _cdf(inside, rate) - 1.0)
        + 2.0 * rate * ops.exp(_log_prob(floor(inside), rate))
        - rate * (i0e(2.0 * rate) + i1e(2.0 * rate))
    )
    return value + ops.abs(y - inside)


@register("families.Poisson")
class Poisson(PositiveParams):
    """Poisson distribution of counts, with params `[rate]`.

    ```
    log p(y) = y log(rate) - rate - lgamma(y + 1)
    ```

    `rate` is the mean and the variance. Where the counts scatter more than
    that, see `NegativeBinomial`.

    Example:

    >>> family = uq.families.Poisson()
    >>> params = np.array([[2.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -2.0
    >>> float(family.quantile(0.5, params)[0, 0])
    2.0
    """

    name = "poisson"
    parameters = ("rate",)
    lower = 0.0
    discrete = True

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return (1.0,)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        (rate,) = self.split(params)
        return rate

    def variance(self, params: Tensor) -> Tensor:
        return self.mean(params)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params), differentiable=False)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import gammaincc

        return gammaincc(np.maximum(y + 1.0, 0.0), *parts)

    def array_ratio(self, count: float, *parts: Array) -> Array:
        (rate,) = parts
        return rate / (count + 1.0)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))
