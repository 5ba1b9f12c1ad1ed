"""The Laplace distribution. `loc` and `scale` are in the unit of `y`."""

import math

from keras import ops

from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import widen

# exp(-750) is 0 even in float64.
_FAR = 750.0


def laplace_log_prob(y, loc, scale):
    """Log density of the Laplace distribution, in nats.

    ```
    log p(y) = -|y - loc| / scale - log(2 scale)
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of mean absolute deviations, positive; the standard
            deviation is `sqrt(2) * scale`.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(laplace_log_prob(1.0, 0.0, 2.0)), 4)
    -1.8863
    """
    y, loc, scale = widen(y, loc, scale)
    z = divide(*half_difference(y, loc, scale))
    # Not `abs(z)`: its gradient at 0 is 0 on some backends, 1 on others.
    distance = z * ops.stop_gradient(ops.sign(z))
    return -distance - ops.log(scale) - math.log(2.0)


def laplace_cdf(y, loc, scale):
    """Distribution function of the Laplace distribution.

    ```
    F(y) = exp(z) / 2 where z < 0, else 1 - exp(-z) / 2;  z = (y - loc) / scale
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of mean absolute deviations, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> float(laplace_cdf(0.0, 0.0, 1.0))
    0.5
    """
    y, loc, scale = widen(y, loc, scale)
    scale = nan_unless_positive(scale)
    half, half_scale = half_difference(y, loc, scale)
    far = ops.abs(half) >= _FAR * half_scale
    z = divide(ops.where(far, ops.zeros_like(half), half), half_scale)
    # The sides are chosen, not |z|, whose gradient at 0 would be 0.
    below = z < 0
    zero = ops.zeros_like(z)
    lower = 0.5 * ops.exp(ops.where(below, z, zero))
    upper = 1.0 - 0.5 * ops.exp(-ops.where(below, zero, z))
    near_value = ops.where(below, lower, upper)
    return ops.where(far, ops.cast(half > 0, half.dtype), near_value)


def laplace_quantile(p, loc, scale):
    """Quantile of the Laplace distribution.

    ```
    Q(p) = loc + scale * log(2 p) where p < 1/2, else loc - scale * log(2 - 2 p)
    ```

    Args:
        p: Tensor of probabilities in `[0, 1]`.
        loc: Tensor of medians.
        scale: Tensor of mean absolute deviations, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> float(laplace_quantile(0.5, 3.0, 1.0))
    3.0
    """
    p, loc, scale = widen(p, loc, scale)
    scale = nan_unless_positive(scale)
    below = p < 0.5
    half = 0.5 * ops.ones_like(p)
    lower = ops.log(2.0 * ops.where(below, p, half))
    upper = -ops.log(2.0 * (1.0 - ops.where(below, half, p)))
    return loc + scale * ops.where(below, lower, upper)


def laplace_crps(y, loc, scale):
    """Continuous ranked probability score of the Laplace, in the unit of `y`.

    ```
    crps = |y - loc| + scale * (exp(-|y - loc| / scale) - 3/4)
    ```

    Args:
        y: Tensor of observations.
        loc: Tensor of medians.
        scale: Tensor of mean absolute deviations, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> float(laplace_crps(0.0, 0.0, 1.0))
    0.25

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    y, loc, scale = widen(y, loc, scale)
    scale = nan_unless_positive(scale)
    distance = ops.abs(y - loc)
    far = distance >= _FAR * scale
    z = divide(ops.where(far, ops.zeros_like(distance), distance), scale)
    tail = ops.where(far, ops.zeros_like(distance), ops.exp(-z))
    return distance + scale * (tail - 0.75)
