import math

import numpy as np
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families.normal import Normal
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics import widen
from keras_uq_layers.numerics.division import divide_by_logs
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.registration import register

_NORMAL = Normal()


def _log_prob(
    y: Tensor, loc: Tensor, diagonal: Tensor, lower: Tensor, rows: Tensor
) -> Tensor:
    """`-|z|^2 / 2 - sum log(diagonal) - D log(2 pi) / 2`, where `L z = y - loc`.

    `rows` holds, for each entry of `lower`, the diagonal entry of its row. Where
    the square of `z` overflows, or the factor is so skewed that the solution
    cannot be bounded, the result is `-inf`, with a gradient of 0.
    """
    half, half_diagonal = half_difference(y, loc, diagonal)
    log_largest = math.log(float(finfo(y.dtype).max))
    # Quotients that would overflow are replaced before they are formed.
    limit = math.exp(0.9 * log_largest)
    remote = ops.abs(half) > limit * half_diagonal
    skewed = ops.abs(lower) > limit * rows
    lost = ops.any(remote, axis=-1) | ops.any(skewed, axis=-1)
    target = divide_by_logs(
        ops.where(remote, ops.zeros_like(half), half), half_diagonal
    )
    relative = divide_by_logs(ops.where(skewed, ops.zeros_like(lower), lower), rows)
    eye = ops.eye(y.shape[-1], dtype=y.dtype)
    unit_lower = _triangle(relative, ops.ones_like(diagonal))
    # The substitution must not overflow either: an infinite solution would have
    # a gradient of NaN. Its growth is bounded by the rows of the factor, and the
    # system is linear, so that the target is scaled down as far as needed.
    steepest = ops.max(ops.abs(unit_lower) - eye, axis=-1)
    growth = ops.sum(ops.log1p(steepest), axis=-1)
    size = growth + ops.log(ops.max(ops.abs(target), axis=-1))
    lost = lost | (growth > 0.75 * log_largest)
    shrink = ops.exp(ops.stop_gradient(smaller(0.9 * log_largest - size, 0.0)))
    safe_lower = ops.where(lost[..., None, None], eye, unit_lower)
    shrunk = ops.solve_triangular(
        safe_lower, (shrink[..., None] * target)[..., None], lower=True
    )[..., 0]
    trial = ops.stop_gradient(shrunk) / shrink[..., None]
    lost = lost | ops.isinf(ops.sum((0.5 * trial) * trial, axis=-1))
    z = ops.where(lost[..., None], ops.zeros_like(shrunk), shrunk) / shrink[..., None]
    value = (
        -ops.sum((0.5 * z) * z, axis=-1)
        - ops.sum(ops.log(diagonal), axis=-1)
        - 0.5 * y.shape[-1] * math.log(2.0 * math.pi)
    )
    return ops.where(lost, ops.full_like(value, -math.inf), value)


def _triangle(lower: Tensor, diagonal: Tensor) -> Tensor:
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
    spread = ("diagonal", "lower")
    independent = False
    target_unit = "affine"

    def block_sizes(self, units: int) -> tuple[int, ...]:
        return units, units, units * (units - 1) // 2

    def units(self, params_size: int | None) -> int:
        size = params_size or 0
        units = (math.isqrt(9 + 8 * size) - 3) // 2
        if units < 1 or sum(self.block_sizes(units)) != size:
            raise ValueError(
                "The last axis of `params` must hold D + D (D + 1) / 2 values (2, 5, "
                f"9, 14, ...) for D outputs of the family {self.name!r}. "
                f"Received: a last axis of size {params_size}"
            )
        return units

    def constrain_parts(
        self,
        loc: Tensor,
        raw_diagonal: Tensor,
        raw_lower: Tensor,
        *,
        scale_floor: float,
    ) -> tuple[Tensor, ...]:
        diagonal = positive(raw_diagonal, scale_floor)
        rows = self._rows(diagonal.shape[-1])
        lower = ops.take(diagonal, rows, axis=-1) * raw_lower
        return loc, diagonal, lower / math.sqrt(diagonal.shape[-1])

    def unconstrain_parts(
        self, loc: Tensor, diagonal: Tensor, lower: Tensor, *, scale_floor: float
    ) -> tuple[Tensor, ...]:
        rows = self._rows(diagonal.shape[-1])
        raw_lower = lower / ops.take(diagonal, rows, axis=-1)
        return (
            loc,
            positive_inverse(diagonal, scale_floor),
            raw_lower * math.sqrt(diagonal.shape[-1]),
        )

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 0.0, scale, 0.0

    @staticmethod
    def _rows(units: int) -> Array:
        """The row of each entry below the diagonal."""
        return np.tril_indices(units, -1)[0].astype("int32")

    def cholesky(self, params: Tensor) -> Tensor:
        """The lower triangular factor `L` of the covariance, `(..., D, D)`."""
        _, diagonal, lower = self.split(params)
        return _triangle(lower, diagonal)

    def covariance(self, params: Tensor) -> Tensor:
        """The covariance of the outputs, `(..., D, D)`."""
        factor = self.cholesky(params)
        return ops.matmul(factor, ops.swapaxes(factor, -1, -2))

    def log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        loc, diagonal, lower = self.split(params)
        rows = ops.take(diagonal, self._rows(diagonal.shape[-1]), axis=-1)
        return _log_prob(self.align(y, params), loc, diagonal, lower, rows)

    def marginals(self, params: Tensor) -> tuple[Tensor, ...]:
        loc, _, _ = self.split(params)
        return loc, ops.sqrt(self.variance(params))

    def _marginals(self, params: Tensor) -> Tensor:
        """The params `[loc | scale]` of the normals of each output on its own."""
        return _NORMAL.join(*self.marginals(params))

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _NORMAL.marginal_log_prob(y, self._marginals(params))

    def mean(self, params: Tensor) -> Tensor:
        return self.split(params)[0]

    def variance(self, params: Tensor) -> Tensor:
        return ops.sum(ops.square(self.cholesky(params)), axis=-1)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _NORMAL.cdf(y, self._marginals(params))

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        return _NORMAL.quantile(p, self._marginals(params))

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _NORMAL.crps(y, self._marginals(params))

    def draw_noise(
        self, shape: Shape, seed: Seed = None, dtype: str = "float32"
    ) -> Tensor:
        return _random.normal(shape, dtype, seed)

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        loc, _, _ = self.split(params)
        return loc + ops.sum(self.cholesky(params) * noise[..., None, :], axis=-1)

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        loc, diagonal, lower = self.split(params)
        rows = self._rows(diagonal.shape[-1])
        factor = widen(factor) * ops.ones_like(diagonal)
        return self.join(
            shift + factor * loc,
            factor * diagonal,
            ops.take(factor, rows, axis=-1) * lower,
        )
