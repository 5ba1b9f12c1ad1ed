"""Differences of gamma functions, written so that nothing cancels.

The likelihoods of counts, rates and positive amounts are differences of large
terms, `lgamma` among them, that nearly cancel: in float32 nothing is left of
a Poisson likelihood of a count of a million. Here they are written with the
*deviance*, which is small where the fit is good, and the error of Stirling's
formula, which is small for large arguments (Loader's saddle-point form).
"""

import math

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.special import lgamma

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def stirling_error(x: Tensor) -> Tensor:
    """The error of Stirling's formula for `lgamma(x)`.

    ```
    stirling_error(x) = lgamma(x) - (x - 1/2) log(x) + x - log(2 pi) / 2
    ```

    About `1 / (12 x)`: accurate for large `x`, where the difference of the
    terms on the right would be rounding noise.

    Args:
        x: Positive tensor.

    Returns:
        Tensor of the shape of `x`, float32 or wider.

    Example:

    >>> round(float(stirling_error(1e6)) * 12e6, 3)
    1.0

    Reference:
        Loader, 2000, "Fast and Accurate Computation of Binomial
        Probabilities", Bell Laboratories.
    """
    x = widen(x)
    large = x >= 10.0
    small = ops.where(large, ops.ones_like(x), x)
    direct = lgamma(small) - (small - 0.5) * ops.log(small) + small - HALF_LOG_TWO_PI
    inverse = 1.0 / ops.where(large, x, ops.full_like(x, 10.0))
    square = inverse * inverse
    series = ops.zeros_like(x)
    for numerator, denominator in reversed(
        [(1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156)]
    ):
        series = series * square + numerator / denominator
    return ops.where(large, series * inverse, direct)


def log1p_minus(x: Tensor) -> Tensor:
    """`log(1 + x) - x` without the cancellation near 0.

    Args:
        x: Tensor, above -1.

    Returns:
        Tensor of the shape of `x`, float32 or wider; about `-x^2 / 2` near 0.

    Example:

    >>> round(float(log1p_minus(1e-4)) / 1e-8, 3)
    -0.5
    """
    x = widen(x)
    near = (x > -0.4) & (x < 0.5)
    small = ops.where(near, x, ops.zeros_like(x))
    # log(1 + x) = 2 atanh(r), r = x / (2 + x), whose first term leaves -r x.
    r = small / (2.0 + small)
    square = r * r
    series = ops.zeros_like(x)
    for j in range(12, -1, -1):
        series = series * square + 1.0 / (2 * j + 3)
    near_value = r * (2.0 * square * series - small)
    far = ops.where(near, ops.ones_like(x), x)
    return ops.where(near, near_value, ops.log1p(far) - far)


def deviance(
    x: Tensor,
    mean: Tensor,
    excess: Tensor | None = None,
    log_mean: Tensor | None = None,
) -> Tensor:
    """How far a count or amount `x` is from its mean; 0 where they agree.

    ```
    deviance = x log(x / mean) - x + mean
    ```

    Args:
        x: Positive tensor.
        mean: Positive tensor.
        excess: `mean - x`, where it is known better than from the difference.
        log_mean: `log(mean)`, where it is known although `mean` underflows.

    Returns:
        Tensor of the broadcast shape, float32 or wider, not negative.

    Example:

    >>> round(float(deviance(2.0, 1.0)), 4)
    0.3863
    """
    x, mean = widen(x, mean)
    excess = mean - x if excess is None else excess
    log_mean = ops.log(mean) if log_mean is None else log_mean
    near = (excess > -0.4 * x) & (excess < 0.5 * x)
    one = ops.ones_like(x + mean)
    safe_x = ops.where(near, x, one)
    close = -safe_x * log1p_minus(ops.where(near, excess, ops.zeros_like(one)) / safe_x)
    far_x = ops.where(near, one, x)
    far_mean = ops.where(near, one, mean)
    far_log_mean = ops.where(near, ops.zeros_like(one), log_mean)
    distant = far_x * (ops.log(far_x) - far_log_mean) + (far_mean - far_x)
    return ops.where(near, close, distant)
