import math

import keras
import numpy as np
from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics import widen
from keras_uq_layers.registration import register


@register("families.MultivariateNormal")
class MultivariateNormal(Family):
    """Multivariate normal: outputs that are correlated given the input.

    ```
    log p(y) = -|z|^2 / 2 - sum log(diagonal(L)) - D log(2 pi) / 2
    L z = y - loc,  covariance = L L^T
    params = [loc | diagonal of L | rest of L, row by row]
    ```

    The params have width `D + D (D + 1) / 2`: 2 for one output, 5 for two, 9
    for three. All but the zeros of the Cholesky factor `L`, in the unit of
    `y`, is there; `cholesky(params)` puts it together. `log_prob` is joint;
    `marginal_log_prob`, `cdf`, `quantile` and `crps` are those of each
    output on its own, and `beta` of the negative log likelihood is refused.

    A head learns each row of `L` relative to its diagonal entry, divided by
    `sqrt(D)`: a plain triangle diverges in training.

    Example:

    >>> family = uq.families.MultivariateNormal()
    >>> family.params_size(2), family.units(5)
    (5, 2)
    >>> params = np.array([[0.0, 0.0, 1.0, 0.8, 0.6]])
    >>> [[round(float(v), 4) for v in row] for row in family.covariance(params)[0]]
    [[1.0, 0.6], [0.6, 1.0]]
    """

    name = "multivariate_normal"
    parameters = ("loc", "diagonal", "lower")
    independent = False
    target_unit = "affine"

    def block_sizes(self, units):
        return units, units, units * (units - 1) // 2

    def units(self, params_size):
        size = params_size or 0
        units = (math.isqrt(9 + 8 * size) - 3) // 2
        if units < 1 or sum(self.block_sizes(units)) != size:
            raise ValueError(
                "The last axis of `params` must hold D + D (D + 1) / 2 values (2, 5, "
                f"9, 14, ...) for D outputs of the family {self.name!r}. "
                f"Received: a last axis of size {params_size}"
            )
        return units

    def constrain_parts(self, loc, raw_diagonal, raw_lower, *, scale_floor):
        diagonal = positive(raw_diagonal, scale_floor)
        rows = self._rows(diagonal.shape[-1])
        lower = ops.take(diagonal, rows, axis=-1) * raw_lower
        return loc, diagonal, lower / math.sqrt(diagonal.shape[-1])

    def unconstrain_parts(self, loc, diagonal, lower, *, scale_floor):
        rows = self._rows(diagonal.shape[-1])
        raw_lower = lower / ops.take(diagonal, rows, axis=-1)
        return (
            loc,
            positive_inverse(diagonal, scale_floor),
            raw_lower * math.sqrt(diagonal.shape[-1]),
        )

    def initial_parts(self, scale):
        return 0.0, scale, 0.0

    @staticmethod
    def _rows(units):
        """The row of each entry below the diagonal."""
        return np.tril_indices(units, -1)[0].astype("int32")

    @staticmethod
    def _square(lower, diagonal):
        """The triangle `(..., D, D)` of its entries below and on the diagonal."""
        units = diagonal.shape[-1]
        # Each entry of the matrix is one of [zero | diagonal | lower].
        index = np.zeros((units, units), "int32")
        index[np.diag_indices(units)] = 1 + np.arange(units)
        index[np.tril_indices(units, -1)] = 1 + units + np.arange(lower.shape[-1])
        entries = ops.concatenate(
            [ops.zeros_like(diagonal[..., :1]), diagonal, lower], axis=-1
        )
        taken = ops.take(entries, index.ravel(), axis=-1)
        return ops.reshape(taken, (*ops.shape(diagonal)[:-1], units, units))

    def cholesky(self, params):
        """The lower triangular factor `L` of the covariance, `(..., D, D)`."""
        _, diagonal, lower = self.split(params)
        return self._square(lower, diagonal)

    def covariance(self, params):
        """The covariance of the outputs, `(..., D, D)`."""
        factor = self.cholesky(params)
        return ops.matmul(factor, ops.swapaxes(factor, -1, -2))

    def log_prob(self, y, params):
        loc, diagonal, lower = self.split(params)
        y = self.align(y, params)
        rows = self._rows(diagonal.shape[-1])
        relative = numerics.divide(lower, ops.take(diagonal, rows, axis=-1))
        unit_lower = self._square(relative, ops.ones_like(diagonal))
        return numerics.multivariate_normal_log_prob(y, loc, diagonal, unit_lower)

    def marginals(self, params):
        loc, _, _ = self.split(params)
        return loc, ops.sqrt(self.variance(params))

    def marginal_log_prob(self, y, params):
        return numerics.normal_log_prob(self.align(y, params), *self.marginals(params))

    def mean(self, params):
        return self.split(params)[0]

    def variance(self, params):
        return ops.sum(ops.square(self.cholesky(params)), axis=-1)

    def cdf(self, y, params):
        return numerics.normal_cdf(self.align(y, params), *self.marginals(params))

    def quantile(self, p, params):
        return numerics.normal_quantile(p, *self.marginals(params))

    def crps(self, y, params):
        return numerics.normal_crps(self.align(y, params), *self.marginals(params))

    def draw_noise(self, shape, seed=None, dtype="float32"):
        return keras.random.normal(shape, dtype=dtype, seed=seed)

    def sample_from_noise(self, noise, params):
        loc, _, _ = self.split(params)
        return loc + ops.sum(self.cholesky(params) * noise[..., None, :], axis=-1)

    def affine(self, params, shift, factor):
        loc, diagonal, lower = self.split(params)
        rows = self._rows(diagonal.shape[-1])
        factor = widen(factor) * ops.ones_like(diagonal)
        return self.join(
            shift + factor * loc,
            factor * diagonal,
            ops.take(factor, rows, axis=-1) * lower,
        )
