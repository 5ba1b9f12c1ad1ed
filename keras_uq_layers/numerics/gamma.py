"""The gamma distribution, by its mean (unit of `y`) and its concentration."""

import numpy as np
from keras import ops

from keras_uq_layers.numerics.beta import log_beta
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.gammainc import gammainc
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error


def gamma_log_prob(y, mean, concentration):
    """Log density of the gamma distribution, in nats.

    ```
    log p(y) = k log(k / mean) + (k - 1) log(y) - k y / mean - lgamma(k)
    ```

    with `k` the concentration: the standard deviation is `mean / sqrt(k)`.

    Args:
        y: Tensor of observations. Not positive: `-inf`, with a gradient of 0.
        mean: Tensor of means, positive.
        concentration: Tensor, positive, without a unit.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(gamma_log_prob(1.0, 1.0, 1.0)), 4)
    -1.0
    """
    y, mean, concentration = widen(y, mean, concentration)
    outside = (y <= 0) | (y >= np.inf)
    y, mean, concentration = within_support(outside, y, mean, concentration)
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
    inside = (
        0.5 * ops.log(concentration)
        - HALF_LOG_TWO_PI
        - stirling_error(concentration)
        - concentration * ops.where(near, close, distant)
        - log_y
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def gamma_cdf(y, mean, concentration):
    """Distribution function of the gamma distribution.

    ```
    F(y) = gammainc(k, k y / mean)
    ```

    Args:
        y: Tensor of observations.
        mean: Tensor of means, positive.
        concentration: Tensor, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(gamma_cdf(1.0, 1.0, 1.0)), 4)
    0.6321
    """
    y, mean, concentration = widen(y, mean, concentration)
    outside = y <= 0
    safe = ops.where(outside, ops.ones_like(y), y)
    concentration = concentration * ops.ones_like(safe)
    # Capped: the backends give NaN for an infinite argument.
    x = smaller(concentration * divide(safe, mean), 1e30)
    inside = gammainc(concentration, x)
    return ops.where(outside, ops.zeros_like(inside), inside)


def gamma_crps(y, mean, concentration):
    """Continuous ranked probability score of the gamma, in the unit of `y`.

    ```
    crps = y (2 F(y; k) - 1) - mean (2 F(y; k + 1) - 1)
         - mean / (k B(1/2, k))
    ```

    where both `F` have the rate `k / mean`.

    Args:
        y: Tensor of observations.
        mean: Tensor of means, positive.
        concentration: Tensor, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(gamma_crps(1.0, 1.0, 1.0)), 4)
    0.2358

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    y, mean, concentration = widen(y, mean, concentration)
    inside = larger(y, 0.0)
    lower = gamma_cdf(inside, mean, concentration)
    k = concentration + 1.0
    shifted = gamma_cdf(inside, mean * (k / concentration), k)
    half = 0.5 * ops.ones_like(concentration)
    spread = ops.exp(-log_beta(half, concentration) - ops.log(concentration))
    value = inside * (2.0 * lower - 1.0) - mean * (2.0 * shifted - 1.0 + spread)
    return value + ops.abs(y - inside)
