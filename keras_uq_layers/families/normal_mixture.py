import math
from statistics import NormalDist

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.registration import register


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

    def __init__(self, components):
        self.components = arguments.positive_int("components", components)
        self.parameters = tuple(
            f"{name}_{k}"
            for name in ("log_weight", "loc", "scale")
            for k in range(1, self.components + 1)
        )

    def _thirds(self, parts):
        k = self.components
        return parts[:k], parts[k : 2 * k], parts[2 * k :]

    def _read(self, params):
        """log_weight, loc and scale, each `(..., D, K)`."""
        parts = self._thirds(self.split(params))
        return tuple(ops.stack(part, axis=-1) for part in parts)

    def constrain_parts(self, *raw, scale_floor):
        logits, loc, raw_scale = self._thirds(raw)
        log_weight = ops.log_softmax(ops.stack(logits, axis=-1), axis=-1)
        # Logits at both ends of the dtype would give a weight of log(0).
        log_weight = larger(log_weight, -1e30)
        return (
            *(log_weight[..., k] for k in range(self.components)),
            *loc,
            *(positive(s, scale_floor) for s in raw_scale),
        )

    def unconstrain_parts(self, *parts, scale_floor):
        log_weight, loc, scale = self._thirds(parts)
        return (*log_weight, *loc, *(positive_inverse(s, scale_floor) for s in scale))

    def initial_parts(self, scale):
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

    def marginal_log_prob(self, y, params):
        return numerics.normal_mixture_log_prob(
            self.align(y, params), *self._read(params)
        )

    def mean(self, params):
        log_weight, loc, _ = self._read(params)
        return ops.sum(ops.exp(log_weight) * loc, axis=-1)

    def variance(self, params):
        log_weight, loc, scale = self._read(params)
        weight = ops.exp(log_weight)
        mean = ops.sum(weight * loc, axis=-1, keepdims=True)
        return ops.sum(weight * (ops.square(scale) + ops.square(loc - mean)), axis=-1)

    def cdf(self, y, params):
        return numerics.normal_mixture_cdf(self.align(y, params), *self._read(params))

    def crps(self, y, params):
        return numerics.normal_mixture_crps(self.align(y, params), *self._read(params))

    def affine(self, params, shift, factor):
        log_weight, loc, scale = self._thirds(self.split(params))
        return self.join(
            *log_weight,
            *(shift + factor * part for part in loc),
            *(factor * part for part in scale),
        )

    def get_config(self):
        return {"components": self.components}
