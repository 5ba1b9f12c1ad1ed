"""The Poisson distribution of counts, by its rate."""

import numpy as np
from keras import ops

from keras_uq_layers.numerics.dtypes import floor
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.gammainc import gammaincc
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import i0e
from keras_uq_layers.numerics.special import i1e


def poisson_log_prob(y, rate):
    """Log probability of a count, in nats.

    ```
    log p(y) = y log(rate) - rate - lgamma(y + 1)
    ```

    Args:
        y: Tensor of counts. Not a whole number from 0 on: `-inf`, with a
            gradient of 0.
        rate: Tensor of expected counts, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(poisson_log_prob(0.0, 2.0)), 4)
    -2.0

    Reference:
        Loader, 2000, "Fast and Accurate Computation of Binomial
        Probabilities", Bell Laboratories.
    """
    y, rate = widen(y, rate)
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


def poisson_cdf(y, rate):
    """Probability of a count up to `y`.

    ```
    F(y) = gammaincc(floor(y) + 1, rate)
    ```

    Args:
        y: Tensor of numbers.
        rate: Tensor of expected counts, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(poisson_cdf(0.0, 2.0)), 4)
    0.1353
    """
    y, rate = widen(y, rate)
    below = y < 0
    count = floor(ops.where(below, ops.zeros_like(y), y)) + 1.0
    one = ops.ones_like(count * rate)
    inside = gammaincc(ops.stop_gradient(count * one), rate * one)
    return ops.where(below, ops.zeros_like(inside), inside)


def poisson_crps(y, rate):
    """Continuous ranked probability score of the Poisson distribution.

    ```
    crps = (y - rate) (2 F(y) - 1) + 2 rate p(floor(y))
         - rate exp(-2 rate) (I0(2 rate) + I1(2 rate))
    ```

    Args:
        y: Tensor of counts.
        rate: Tensor of expected counts, positive.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(poisson_crps(0.0, 1.0)), 4)
    0.4762

    Reference:
        Wei & Held, 2014, "Calibration tests for count data", TEST 23(4),
        doi:10.1007/s11749-014-0380-8.
    """
    y, rate = widen(y, rate)
    count = floor(larger(y, 0.0))
    inside = (
        (y - rate) * (2.0 * poisson_cdf(y, rate) - 1.0)
        + 2.0 * rate * ops.exp(poisson_log_prob(count, rate))
        - rate * (i0e(2.0 * rate) + i1e(2.0 * rate))
    )
    # Below 0 the cdf is 0: the distance to 0 is added to the score there.
    at_zero = -rate * (2.0 * ops.exp(-rate) - 1.0) + 2.0 * rate * ops.exp(-rate)
    below = at_zero - rate * (i0e(2.0 * rate) + i1e(2.0 * rate)) - y
    return ops.where(y < 0, below, inside)
