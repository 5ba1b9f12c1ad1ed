import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._positive import PositiveParams
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import gammainc
from keras_uq_layers.numerics import log_beta
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.division import divide_by_logs
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.gammainc import log_gammainc_tails
from keras_uq_layers.numerics.intervals import log_integral
from keras_uq_layers.numerics.intervals import log_interval
from keras_uq_layers.numerics.intervals import log_ratio
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, mean: Tensor, k: Tensor) -> Tensor:
    """`log(k) / 2 - log(2 pi) / 2 - stirling_error(k) - k deviance - log(y)`

    with the deviance `y / mean - 1 - log(y / mean)`: nothing cancels.
    """
    outside = (y <= 0) | (y >= np.inf)
    y, mean, k = within_support(outside, y, mean, k)
    log_y = ops.log(y)
    ratio = divide(y, mean)
    near = (ratio > 0.6) & (ratio < 1.5)
    # ratio - 1 from the exact difference, where they are close.
    excess = divide(ops.where(near, y - mean, ops.zeros_like(ratio)), mean)
    close = -log1p_minus(excess)
    # Far from 1, the slope of the ratio and that of its logarithm meet before they
    # are multiplied by 1 / mean: afterwards they would be inf - inf.
    log_ratio = log_y - ops.log(mean)
    one = ops.exp(log_ratio - ops.stop_gradient(log_ratio))
    distant = ops.stop_gradient(ratio) * one - 1.0 - log_ratio
    deviance = ops.where(near, close, distant)
    inside = (
        0.5 * ops.log(k) - HALF_LOG_TWO_PI - stirling_error(k) - k * deviance - log_y
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _cdf(y: Tensor, mean: Tensor, k: Tensor, *, differentiable: bool = True) -> Tensor:
    """`gammainc(k, k y / mean)`"""
    outside = y <= 0
    safe = ops.where(outside, ops.ones_like(y), y)
    k = k * ops.ones_like(safe)
    x, log_x = _in_scales(safe, mean, k)
    inside = gammainc(k, x, differentiable, log_x)
    return ops.where(outside, ops.zeros_like(inside), inside)


def _in_scales(y: Tensor, mean: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """`x = k y / mean`, which may underflow, and its logarithm, which does not."""
    # Capped: the backends give NaN for an infinite argument.
    x = smaller(k * divide_by_logs(y, mean), 1e30)
    return x, ops.log(k) + ops.log(y) - ops.log(mean)


def _log_interval(lower: Tensor, upper: Tensor, mean: Tensor, k: Tensor) -> Tensor:
    """`log(F(upper) - F(lower))`; narrow intervals are integrated over `log(y)`."""
    lower = ops.where(lower <= 0, -np.inf, lower)

    def log_tails(y: Tensor) -> tuple[Tensor, Tensor]:
        x, log_x = _in_scales(y, mean, k)
        return log_gammainc_tails(k, x, log_x)

    def log_mass(first: Tensor, last: Tensor, wanted: Tensor) -> Tensor:
        start = ops.where(wanted, first, mean)[..., None]
        centre, shape = mean[..., None], k[..., None]

        def log_density(t: Tensor) -> Tensor:
            return _log_prob(start * ops.exp(t), centre, shape) + ops.log(start) + t

        return log_integral(log_density, log_ratio(first, last, wanted))

    return log_interval(lower, upper, mean, log_tails, log_mass)


def _crps(y: Tensor, mean: Tensor, k: Tensor) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = y (2 F(y; k) - 1) - mean (2 F(y; k + 1) - 1 + 1 / (k B(1/2, k)))
    ```

    where both `F` have the rate `k / mean`.

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    inside = larger(y, 0.0)
    lower = _cdf(inside, mean, k)
    shifted = _cdf(inside, mean * ((k + 1.0) / k), k + 1.0)
    spread = ops.exp(-log_beta(0.5 * ops.ones_like(k), k) - ops.log(k))
    value = inside * (2.0 * lower - 1.0) - mean * (2.0 * shifted - 1.0 + spread)
    return value + ops.abs(y - inside)


@register("families.Gamma")
class Gamma(PositiveParams):
    """Gamma distribution of positive `y`, with params `[mean | concentration]`.

    ```
    log p(y) = k log(k / mean) + (k - 1) log(y) - k y / mean - lgamma(k)
    ```

    with `k` the concentration, which has no unit: the standard deviation is
    `mean / sqrt(k)`. `mean` is in the unit of `y`. The rate of other
    libraries is `k / mean`, their scale `mean / k`.

    Example:

    >>> family = uq.families.Gamma()
    >>> params = np.array([[2.0, 1.0]])  # mean, concentration: exponential
    >>> round(float(family.log_prob(np.array([2.0]), params)[0]), 4)
    -1.6931
    """

    name = "gamma"
    parameters = ("mean", "concentration")
    spread = ("concentration",)
    lower = 0.0
    target_unit = "scale"

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 1.0, scale**-2

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        mean, _ = self.split(params)
        return mean

    def variance(self, params: Tensor) -> Tensor:
        mean, concentration = self.split(params)
        return mean * (mean / concentration)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params), differentiable=False)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import gammainc

        mean, concentration = parts
        return gammainc(concentration, concentration * (np.maximum(y, 0.0) / mean))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))

    def rescale(self, params: Tensor, factor: Tensor) -> Tensor:
        mean, concentration = self.split(params)
        return self.join(factor * mean, concentration)
