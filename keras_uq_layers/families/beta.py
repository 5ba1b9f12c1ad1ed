import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._positive import PositiveParams
from keras_uq_layers.numerics import log_beta
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.betainc import betainc_tails
from keras_uq_layers.numerics.betainc import log_betainc_tails
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.intervals import log_integral
from keras_uq_layers.numerics.intervals import log_interval
from keras_uq_layers.numerics.intervals import log_ratio
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """In Loader's saddle-point form, in which nothing cancels."""
    outside = (y <= 0) | (y >= 1)
    (y,) = within_support(outside, y, fill=0.5)
    alpha, beta = within_support(outside, alpha, beta)
    total = alpha + beta
    # total * y - alpha, without the cancellation for unequal parameters.
    excess = beta * y - alpha * (1.0 - y)
    log_total, log_y, log_rest = ops.log(total), ops.log(y), ops.log1p(-y)
    inside = (
        -deviance(alpha, total * y, excess, log_total + log_y)
        - deviance(beta, total * (1.0 - y), -excess, log_total + log_rest)
        - (stirling_error(alpha) + stirling_error(beta) - stirling_error(total))
        - HALF_LOG_TWO_PI
        + 0.5 * (ops.log(alpha) + ops.log(beta) - log_total)
        - log_y
        - log_rest
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _cdf(
    y: Tensor, alpha: Tensor, beta: Tensor, *, differentiable: bool = True
) -> Tensor:
    """`betainc(alpha, beta, y)`"""
    y = between(y, 0.0, 1.0)
    return betainc_tails(alpha, beta, y, 1.0 - y, differentiable)[0]


def _log_interval(lower: Tensor, upper: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`log(F(upper) - F(lower))`; narrow intervals are integrated over the logit."""
    lower = ops.where(lower <= 0, -np.inf, lower)
    upper = ops.where(upper >= 1, np.inf, upper)
    half = ops.full_like(alpha, 0.5)

    def log_tails(y: Tensor) -> tuple[Tensor, Tensor]:
        return log_betainc_tails(alpha, beta, y, 1.0 - y)

    def log_mass(first: Tensor, last: Tensor, wanted: Tensor) -> Tensor:
        first, last = ops.where(wanted, first, half), ops.where(wanted, last, half)
        length = log_ratio(first, last, wanted)
        length = length + log_ratio(1.0 - last, 1.0 - first, wanted)
        start, rest = first[..., None], (1.0 - first)[..., None]

        def log_density(t: Tensor) -> Tensor:
            odds = start * ops.exp(t)
            y = odds / (odds + rest)
            density = _log_prob(y, alpha[..., None], beta[..., None])
            return density + ops.log(y) + ops.log1p(-y)

        return log_integral(log_density, length)

    return log_interval(lower, upper, half, log_tails, log_mass)


def _crps(y: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = y (2 F(y; a, b) - 1)
         + a / (a + b) (1 - 2 F(y; a + 1, b) - 2 B(2a, 2b) / (a B(a, b)^2))
    ```

    Outside of [0, 1] the distance to the interval is added.

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    inside = between(y, 0.0, 1.0)
    lower = _cdf(inside, alpha, beta)
    shifted = _cdf(inside, alpha + 1.0, beta)
    log_ratio = log_beta(2.0 * alpha, 2.0 * beta) - 2.0 * log_beta(alpha, beta)
    spread = 2.0 * ops.exp(log_ratio - ops.log(alpha))
    mean = alpha / (alpha + beta)
    value = inside * (2.0 * lower - 1.0) + mean * (1.0 - 2.0 * shifted - spread)
    return value + ops.abs(y - inside)


@register("families.Beta")
class Beta(PositiveParams):
    """Beta distribution of rates in (0, 1), with params `[alpha | beta]`.

    ```
    log p(y) = (alpha - 1) log(y) + (beta - 1) log(1 - y) - log B(alpha, beta)
    ```

    The mean is `alpha / (alpha + beta)`; large parameters make it narrow. The
    interval is open: rates of exactly 0 or 1 have no likelihood, move them
    inside (`(y * (n - 1) + 0.5) / n` for `n` examples, as Smithson and
    Verkuilen do) or use a `CensoredNormal(0, 1)`.

    Example:

    >>> family = uq.families.Beta()
    >>> params = np.array([[2.0, 2.0]])
    >>> round(float(family.log_prob(np.array([0.5]), params)[0]), 4)
    0.4055

    Reference:
        Smithson & Verkuilen, 2006, "A better lemon squeezer?", Psychological
        Methods 11(1), doi:10.1037/1082-989X.11.1.54.
    """

    name = "beta"
    parameters = ("alpha", "beta")
    lower = 0.0
    upper = 1.0

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 1.0, 1.0

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self.split(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self.split(params))

    def mean(self, params: Tensor) -> Tensor:
        alpha, beta = self.split(params)
        return alpha / (alpha + beta)

    def variance(self, params: Tensor) -> Tensor:
        alpha, beta = self.split(params)
        total = alpha + beta
        return (alpha / total) * (beta / total) / (total + 1.0)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params))

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self.split(params), differentiable=False)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import betainc

        return betainc(*parts, np.clip(y, 0.0, 1.0))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self.split(params))
