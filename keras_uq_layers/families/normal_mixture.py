import math
from collections.abc import Callable
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import numerics
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.normal import mean_distance
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register

# In these functions `y` has shape `(...)` and the parameters have one axis more,
# the components, `(..., K)`.


def _log_prob(y: Tensor, log_weight: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`logsumexp over k of (log_weight_k + log N(y; loc_k, scale_k))`

    Where all the squares overflow it is `-inf`, with a gradient of 0.
    """
    y = ops.expand_dims(y, -1)

    def log_density(loc: Tensor, scale: Tensor) -> Tensor:
        return numerics.normal_log_prob(y, loc, scale)

    return _log_sum(log_density, y, log_weight, loc, scale)


def _log_interval(
    lower: Tensor, upper: Tensor, log_weight: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """`logsumexp` of the log probabilities that the components give the interval."""
    lower, upper = ops.expand_dims(lower, -1), ops.expand_dims(upper, -1)

    def log_mass(loc: Tensor, scale: Tensor) -> Tensor:
        return normal_log_interval(lower, upper, loc, scale)

    # A point between the ends, or 0 on the whole line.
    inner = ops.where(upper >= np.inf, lower, upper)
    inner = ops.where(inner <= -np.inf, ops.zeros_like(inner), inner)
    return _log_sum(log_mass, inner, log_weight, loc, scale)


def _log_sum(
    log_component: Callable[[Tensor, Tensor], Tensor],
    inner: Tensor,
    log_weight: Tensor,
    loc: Tensor,
    scale: Tensor,
) -> Tensor:
    """`logsumexp over k of (log_weight_k + log_component(loc_k, scale_k))`

    `inner` is a loc at which the logarithm is finite.
    """
    terms = ops.stop_gradient(log_weight + log_component(loc, scale))
    peak = ops.max(terms, axis=-1, keepdims=True)
    # A component without a share has no gradient, whatever its square is; an
    # infinite peak minus itself would be NaN.
    lost = ops.isinf(peak)
    silent = lost | (terms < peak + math.log(float(finfo(terms.dtype).tiny)))
    loc = ops.where(silent, inner, loc)
    scale = ops.where(silent, ops.ones_like(scale), scale)
    terms = log_weight + log_component(loc, scale)
    terms = ops.where(silent, ops.full_like(terms, -math.inf), terms)
    terms = ops.where(lost, ops.zeros_like(terms), terms)
    peak = ops.where(lost, ops.zeros_like(peak), peak)
    total = ops.log(ops.sum(ops.exp(terms - peak), axis=-1)) + peak[..., 0]
    return ops.where(lost[..., 0], ops.full_like(total, -math.inf), total)


def _cdf(y: Tensor, log_weight: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """`sum over k of weight_k Phi((y - loc_k) / scale_k)`"""
    each = numerics.normal_cdf(ops.expand_dims(y, -1), loc, scale)
    return ops.sum(ops.exp(log_weight) * each, axis=-1)


def _crps(y: Tensor, log_weight: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Continuous ranked probability score of a mixture of normals.

    ```
    crps = sum_k w_k A(y - loc_k, scale_k)
         - sum_kl w_k w_l A(loc_k - loc_l, sqrt(scale_k^2 + scale_l^2)) / 2
    A(m, s) = 2 s phi(m / s) + m (2 Phi(m / s) - 1)
    ```

    `A` is the expected absolute value of a normal number.

    Args:
        y: Tensor of observations `(...)`.
        log_weight: Tensor of logarithms of the weights, `(..., K)`.
        loc: Tensor of means, `(..., K)`.
        scale: Tensor of standard deviations, positive, `(..., K)`.

    Returns:
        Tensor of shape `(...)`, in the unit of `y`.

    Reference:
        Grimit et al., 2006, "The continuous ranked probability score for
        circular variables", QJRMS 132, doi:10.1256/qj.05.235.
    """
    weight = ops.exp(log_weight)
    error = ops.sum(weight * mean_distance(y[..., None], loc, scale), axis=-1)
    # sqrt(s^2 + t^2) that neither overflows nor underflows.
    first, second = scale[..., :, None], scale[..., None, :]
    greater, lesser = larger(first, second), smaller(first, second)
    joint = greater * ops.sqrt(1.0 + ops.square(divide(lesser, greater)))
    spread = mean_distance(loc[..., :, None], loc[..., None, :], joint)
    pairs = weight[..., :, None] * weight[..., None, :] * spread
    return error - 0.5 * ops.sum(pairs, axis=(-2, -1))


@register("families.NormalMixture")
class NormalMixture(Family):
    """Mixture of K normals for each output: a mixture density network.

    ```
    p(y) = sum over k of exp(log_weight_k) N(y; loc_k, scale_k)
    params = [log_weight_1 | .. | log_weight_K | loc_1 | .. | loc_K |
              scale_1 | .. | scale_K],  each of width D
    ```

    Several answers may be right at once: `loc` and `scale` are those of each
    component, in the unit of `y`. The weights travel as logarithms, so that a
    component with a vanishing weight keeps its gradient; `np.exp` of them
    adds up to 1. The outputs are independent, each with its own weights.

    The head starts with the components spread over the distribution.

    Args:
        components: Number `K` of components, a positive integer.

    Raises:
        ValueError: `components` is not a positive integer.

    Example:

    >>> family = uq.families.NormalMixture(components=2)
    >>> half = np.log(0.5)
    >>> params = np.array([[half, half, -1.0, 1.0, 0.1, 0.1]])
    >>> [float(v) for v in family.mean(params)[0]]
    [0.0]
    >>> round(float(family.variance(params)[0, 0]), 4)
    1.01

    Reference:
        Bishop, 1994, "Mixture Density Networks", Aston University, NCRG/94/004.
    """

    name = "normal_mixture"
    target_unit = "affine"

    def __init__(self, components: int) -> None:
        self.components = arguments.positive_int("components", components)
        self.parameters = tuple(
            f"{name}_{k}"
            for name in ("log_weight", "loc", "scale")
            for k in range(1, self.components + 1)
        )
        self.spread = self.parameters[-self.components :]

    def _thirds(self, parts: Sequence) -> tuple[Sequence, Sequence, Sequence]:
        k = self.components
        return parts[:k], parts[k : 2 * k], parts[2 * k :]

    def _read(self, params: Tensor) -> tuple[Tensor, ...]:
        """log_weight, loc and scale, each `(..., D, K)`."""
        parts = self._thirds(self.split(params))
        return tuple(ops.stack(part, axis=-1) for part in parts)

    def constrain_parts(self, *raw: Tensor, scale_floor: float) -> tuple[Tensor, ...]:
        logits, loc, raw_scale = self._thirds(raw)
        log_weight = ops.log_softmax(ops.stack(logits, axis=-1), axis=-1)
        # Logits at both ends of the dtype would give a weight of log(0).
        log_weight = larger(log_weight, -1e30)
        return (
            *(log_weight[..., k] for k in range(self.components)),
            *loc,
            *(positive(s, scale_floor) for s in raw_scale),
        )

    def unconstrain_parts(
        self, *parts: Tensor, scale_floor: float
    ) -> tuple[Tensor, ...]:
        log_weight, loc, scale = self._thirds(parts)
        return (*log_weight, *loc, *(positive_inverse(s, scale_floor) for s in scale))

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        k = self.components
        # Half of the variance between the components, half within them.
        centres = np.array([NormalDist().inv_cdf((i + 0.5) / k) for i in range(k)])
        if k == 1:
            return 0.0, 0.0, scale
        centres *= scale * math.sqrt(0.5) / centres.std()
        return (
            *[-math.log(k)] * k,
            *centres.tolist(),
            *[scale * math.sqrt(0.5)] * k,
        )

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self._read(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self._read(params))

    def mean(self, params: Tensor) -> Tensor:
        log_weight, loc, _ = self._read(params)
        return ops.sum(ops.exp(log_weight) * loc, axis=-1)

    def variance(self, params: Tensor) -> Tensor:
        log_weight, loc, scale = self._read(params)
        weight = ops.exp(log_weight)
        mean = ops.sum(weight * loc, axis=-1, keepdims=True)
        return ops.sum(weight * (ops.square(scale) + ops.square(loc - mean)), axis=-1)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self._read(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import ndtr

        log_weight, loc, scale = (np.stack(third) for third in self._thirds(parts))
        return (np.exp(log_weight) * ndtr((y - loc) / scale)).sum(axis=0)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self._read(params))

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        log_weight, loc, scale = self._thirds(self.split(params))
        return self.join(
            *log_weight,
            *(shift + factor * part for part in loc),
            *(factor * part for part in scale),
        )
