"""The log-normal distribution: `loc` and `scale` are those of `log(y)`."""

import math

import numpy as np
from keras import ops

from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_log_prob


def log_normal_log_prob(y, loc, scale):
    """Log density of the log-normal distribution, in nats.

    ```
    log p(y) = log N(log(y); loc, scale) - log(y)
    ```

    Args:
        y: Tensor of observations. Not positive: `-inf`, with a gradient of 0.
        loc: Tensor, mean of `log(y)`.
        scale: Tensor, standard deviation of `log(y)`, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(log_normal_log_prob(1.0, 0.0, 1.0)), 4)
    -0.9189
    """
    y, loc, scale = widen(y, loc, scale)
    outside = (y <= 0) | (y >= np.inf)
    # The params too: 0 times an infinite slope would be NaN.
    y, loc, scale = within_support(outside, y, loc, scale)
    log_y = ops.log(y)
    inside = normal_log_prob(log_y, loc, scale) - log_y
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def log_normal_cdf(y, loc, scale):
    """Distribution function of the log-normal distribution.

    ```
    F(y) = Phi((log(y) - loc) / scale)
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor, mean of `log(y)`.
        scale: Tensor, standard deviation of `log(y)`, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> float(log_normal_cdf(1.0, 0.0, 1.0))
    0.5
    """
    y, loc, scale = widen(y, loc, scale)
    outside = y <= 0
    log_y = ops.log(ops.where(outside, ops.ones_like(y), y))
    inside = normal_cdf(log_y, loc, scale)
    return ops.where(outside, ops.zeros_like(inside), inside)


def log_normal_crps(y, loc, scale):
    """Continuous ranked probability score of the log-normal, in the unit of `y`.

    ```
    crps = y (2 Phi(w) - 1)
         - 2 exp(loc + scale^2 / 2) (Phi(w - scale) + Phi(scale / sqrt(2)) - 1)
    ```

    with `w = (log(y) - loc) / scale`.

    Args:
        y: Tensor of observations.
        loc: Tensor, mean of `log(y)`.
        scale: Tensor, standard deviation of `log(y)`, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider; `inf` where the mean
        overflows.

    Example:

    >>> round(float(log_normal_crps(1.0, 0.0, 1.0)), 4)
    0.2674

    Reference:
        Baran & Lerch, 2015, "Log-normal distribution based EMOS models for
        probabilistic wind-speed forecasting", QJRMS 141, doi:10.1002/qj.2521.
    """
    y, loc, scale = widen(y, loc, scale)
    inside = larger(y, 0.0)
    cdf = log_normal_cdf(inside, loc, scale)
    # F of the distribution with loc + scale^2: the size-biased one.
    shifted = log_normal_cdf(inside, loc + ops.square(scale), scale)
    mean = ops.exp(loc + 0.5 * ops.square(scale))
    # 1 - Phi(scale / sqrt(2)), without the cancellation.
    upper = 0.5 * ops.erfc(0.5 * scale)
    value = inside * (2.0 * cdf - 1.0) + 2.0 * mean * (upper - shifted)
    overflow = ops.isinf(mean)
    value = ops.where(overflow, ops.full_like(value, math.inf), value)
    return value + ops.abs(y - inside)
