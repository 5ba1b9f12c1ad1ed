"""The negative binomial distribution of counts, by mean and total count."""

import numpy as np
from keras import ops

from keras_uq_layers.numerics.beta import betainc_tails
from keras_uq_layers.numerics.dtypes import floor
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error


def negative_binomial_log_prob(y, mean, total_count):
    """Log probability of a count, in nats.

    ```
    log p(y) = lgamma(y + r) - lgamma(r) - lgamma(y + 1)
             + r log(r / (r + mean)) + y log(mean / (r + mean))
    ```

    with `r` the total count: the variance is `mean + mean^2 / r`.

    Args:
        y: Tensor of counts. Not a whole number from 0 on: `-inf`, with a
            gradient of 0.
        mean: Tensor of expected counts, positive.
        total_count: Tensor, positive; large: the Poisson distribution.

    Returns:
        Tensor of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(negative_binomial_log_prob(0.0, 1.0, 1.0)), 4)
    -0.6931

    Reference:
        Loader, 2000, "Fast and Accurate Computation of Binomial
        Probabilities", Bell Laboratories.
    """
    y, mean, total_count = widen(y, mean, total_count)
    outside = (y < 0) | (y > floor(y)) | (y >= np.inf)
    mean, total_count = within_support(outside, mean, total_count)
    none = outside | (y <= 0)
    inside = ops.where(
        none, _log_none(none, mean, total_count), _log_some(none, y, mean, total_count)
    )
    return ops.where(outside, ops.full_like(inside, -np.inf), inside)


def _log_some(none, y, mean, total_count):
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


def _log_none(none, mean, total_count):
    """`-r log(1 + mean / r)`, whose ratio overflows for a small r."""
    mean, total_count = within_support(ops.logical_not(none), mean, total_count)
    return -total_count * ops.softplus(ops.log(mean) - ops.log(total_count))


def negative_binomial_cdf(y, mean, total_count):
    """Probability of a count up to `y`.

    ```
    F(y) = betainc(r, floor(y) + 1, r / (r + mean))
    ```

    Args:
        y: Tensor of numbers.
        mean: Tensor of expected counts, positive.
        total_count: Tensor, positive.

    Returns:
        Tensor of probabilities of the broadcast shape, float32 or wider.

    Example:

    >>> round(float(negative_binomial_cdf(0.0, 1.0, 1.0)), 4)
    0.5
    """
    y, mean, total_count = widen(y, mean, total_count)
    below = y < 0
    count = floor(ops.where(below, ops.zeros_like(y), y)) + 1.0
    trials = total_count + mean
    inside, _ = betainc_tails(
        total_count, ops.stop_gradient(count), total_count / trials, mean / trials
    )
    return ops.where(below, ops.zeros_like(inside), inside)
