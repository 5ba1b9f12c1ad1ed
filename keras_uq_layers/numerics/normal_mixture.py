"""Mixtures of normals. The components are the last axis of the parameters."""

import math

from keras import ops

from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_log_prob

_FAR = 40.0


def normal_mixture_log_prob(y, log_weight, loc, scale):
    """Log density of a mixture of normals, in nats.

    ```
    log p(y) = logsumexp over k of (log_weight_k + log N(y; loc_k, scale_k))
    ```

    Args:
        y: Tensor of observations `(...)`.
        log_weight: Tensor of logarithms of the weights, `(..., K)`; their
            exponentials add up to 1.
        loc: Tensor of means of the components, `(..., K)`.
        scale: Tensor of their standard deviations, positive, `(..., K)`.

    Returns:
        Tensor of shape `(...)`, float32 or wider. Where all the squares
        overflow it is `-inf`, with a gradient of 0.

    Example:

    >>> half = np.log([0.5, 0.5])
    >>> round(float(normal_mixture_log_prob(0.0, half, [0.0, 0.0], [1.0, 1.0])), 4)
    -0.9189
    """
    y, log_weight, loc, scale = _widen(y, log_weight, loc, scale)
    terms = ops.stop_gradient(log_weight + normal_log_prob(y, loc, scale))
    peak = ops.max(terms, axis=-1, keepdims=True)
    # A component without a share has no gradient, whatever its square is; an
    # infinite peak minus itself would be NaN.
    lost = ops.isinf(peak)
    silent = lost | (terms < peak + math.log(float(finfo(terms.dtype).tiny)))
    loc = ops.where(silent, y, loc)
    scale = ops.where(silent, ops.ones_like(scale), scale)
    terms = log_weight + normal_log_prob(y, loc, scale)
    terms = ops.where(silent, ops.full_like(terms, -math.inf), terms)
    terms = ops.where(lost, ops.zeros_like(terms), terms)
    peak = ops.where(lost, ops.zeros_like(peak), peak)
    total = ops.log(ops.sum(ops.exp(terms - peak), axis=-1)) + peak[..., 0]
    return ops.where(lost[..., 0], ops.full_like(total, -math.inf), total)


def normal_mixture_cdf(y, log_weight, loc, scale):
    """Distribution function of a mixture of normals.

    ```
    F(y) = sum over k of weight_k Phi((y - loc_k) / scale_k)
    ```

    Args:
        y: Tensor of observations `(...)`.
        log_weight: Tensor of logarithms of the weights, `(..., K)`.
        loc: Tensor of means, `(..., K)`.
        scale: Tensor of standard deviations, positive, `(..., K)`.

    Returns:
        Tensor of probabilities `(...)`, float32 or wider.

    Example:

    >>> half = np.log([0.5, 0.5])
    >>> float(normal_mixture_cdf(0.0, half, [-1.0, 1.0], [1.0, 1.0]))
    0.5
    """
    y, log_weight, loc, scale = _widen(y, log_weight, loc, scale)
    return ops.sum(ops.exp(log_weight) * normal_cdf(y, loc, scale), axis=-1)


def normal_mixture_crps(y, log_weight, loc, scale):
    """Continuous ranked probability score of a mixture, in the unit of `y`.

    ```
    crps = sum_k w_k A(y - loc_k, scale_k^2)
         - sum_kl w_k w_l A(loc_k - loc_l, scale_k^2 + scale_l^2) / 2
    A(m, s^2) = 2 s phi(m / s) + m (2 Phi(m / s) - 1)
    ```

    `A` is the expected absolute value of a normal number.

    Args:
        y: Tensor of observations `(...)`.
        log_weight: Tensor of logarithms of the weights, `(..., K)`.
        loc: Tensor of means, `(..., K)`.
        scale: Tensor of standard deviations, positive, `(..., K)`.

    Returns:
        Tensor of shape `(...)`, float32 or wider.

    Example:

    >>> half = np.log([0.5, 0.5])
    >>> round(float(normal_mixture_crps(0.0, half, [0.0, 0.0], [1.0, 1.0])), 4)
    0.2337

    Reference:
        Grimit et al., 2006, "The continuous ranked probability score for
        circular variables", QJRMS 132, doi:10.1256/qj.05.235.
    """
    y, log_weight, loc, scale = _widen(y, log_weight, loc, scale)
    weight = ops.exp(log_weight)
    error = ops.sum(weight * _absolute(y - loc, scale), axis=-1)
    between = loc[..., :, None] - loc[..., None, :]
    # sqrt(s^2 + t^2) that neither overflows nor underflows.
    first, second = scale[..., :, None], scale[..., None, :]
    greater, lesser = larger(first, second), smaller(first, second)
    joint = greater * ops.sqrt(1.0 + ops.square(divide(lesser, greater)))
    pairs = weight[..., :, None] * weight[..., None, :] * _absolute(between, joint)
    return error - 0.5 * ops.sum(pairs, axis=(-2, -1))


def _absolute(loc, scale):
    far = ops.abs(loc) >= _FAR * scale
    near = ops.where(far, ops.zeros_like(loc), loc)
    z = divide(near, scale)
    density = math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * z * z)
    value = 2.0 * scale * density + near * ops.erf(z * math.sqrt(0.5))
    return ops.where(far, ops.abs(loc), value)


def _widen(y, log_weight, loc, scale):
    y, log_weight, loc, scale = widen(y, log_weight, loc, scale)
    return ops.expand_dims(y, -1), log_weight, loc, scale
