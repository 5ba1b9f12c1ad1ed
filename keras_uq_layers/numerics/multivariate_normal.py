"""The multivariate normal distribution, by the Cholesky factor of its covariance."""

import math

from keras import ops

from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import widen


def multivariate_normal_log_prob(y, loc, diagonal, unit_lower):
    """Log density of the multivariate normal distribution, in nats.

    ```
    log p(y) = -|z|^2 / 2 - sum log(diagonal) - D log(2 pi) / 2
    diag(diagonal) unit_lower z = y - loc
    ```

    Args:
        y: Tensor of observations `(..., D)`.
        loc: Tensor of means `(..., D)`.
        diagonal: Tensor, diagonal of the Cholesky factor, positive, in the
            unit of `y`: `(..., D)`.
        unit_lower: Tensor, the factor with its rows divided by the diagonal:
            lower triangular with ones on the diagonal, `(..., D, D)`.

    Returns:
        Tensor of shape `(...)`, float32 or wider. Where the square
        of `z` overflows it is `-inf`, with a gradient of 0.

    Example:

    >>> one, eye = np.ones((1, 2)), np.eye(2)[None]
    >>> round(float(multivariate_normal_log_prob(one, one, one, eye)[0]), 4)
    -1.8379
    """
    y, loc, diagonal, unit_lower = widen(y, loc, diagonal, unit_lower)
    half, half_diagonal = half_difference(y, loc, diagonal)
    target = ops.stop_gradient(half / half_diagonal)
    # Whether the substitution overflows is only known after it: a first pass
    # without gradients makes the second one safe.
    trial = _solve(ops.stop_gradient(unit_lower), target)
    missing = ops.any(ops.isnan(target), axis=-1)
    missing = missing | ops.any(ops.isnan(unit_lower), axis=(-2, -1))
    # A row with a NaN in y or in the params is not lost: it stays NaN.
    square = ops.sum((0.5 * trial) * trial, axis=-1)
    lost = ops.logical_not(ops.isfinite(square))
    lost = lost & ops.logical_not(missing)
    half = ops.where(lost[..., None], ops.zeros_like(half), half)
    ones = ops.ones_like(half_diagonal)
    half_diagonal = ops.where(lost[..., None], ones, half_diagonal)
    eye = ops.eye(target.shape[-1], dtype=target.dtype) * ops.ones_like(unit_lower)
    safe_lower = ops.where(lost[..., None, None], eye, unit_lower)
    z = _solve(safe_lower, divide(half, half_diagonal))
    value = (
        -ops.sum((0.5 * z) * z, axis=-1)
        - ops.sum(ops.log(diagonal), axis=-1)
        - 0.5 * target.shape[-1] * math.log(2.0 * math.pi)
    )
    return ops.where(lost, ops.full_like(value, -math.inf), value)


def _solve(unit_lower, target):
    return ops.solve_triangular(unit_lower, target[..., None], lower=True)[..., 0]
