"""The generalised Gauss-Newton matrix of a last layer, and its inverse.

```
H = sum over rows n of kron(h_n h_n^T, L_n)
```

`h` are the inputs of the layer, with a 1 for the bias, `L` is the negative
Hessian of the log likelihood in the outputs. Each class holds `H` in a structure
of its own, in float64 on the host. `eigenvalues` are those of `H`, and
`assign(posterior, precision)` makes the inverse of `H + precision * I` the
covariance of a posterior. The order of the weights is that of the flat vector of
`posteriors`: a row of units for each input, then the bias.
"""

import functools
from typing import Any

import numpy as np

from keras_uq_layers._typing import Array
from keras_uq_layers.conversion._likelihoods import Curved
from keras_uq_layers.posteriors import FullCovarianceNormal
from keras_uq_layers.posteriors import KroneckerNormal
from keras_uq_layers.posteriors import MeanFieldNormal
from keras_uq_layers.posteriors import Posterior


class Curvature:
    """Abstract: `H` of a layer with `inputs`, `units` and perhaps a bias.

    `draw` is right for each row alone. Only `Full` draws one set of weights for
    all rows: the others need no more, and save the memory.
    """

    posterior: type[Posterior]

    def __init__(self, inputs: int, units: int, use_bias: bool):
        self.inputs, self.units, self.use_bias = inputs, units, use_bias
        self.rows = inputs + use_bias

    def add(self, h: Array, curved: Curved) -> None:
        """Adds the rows of a batch, `h` of shape `(N, inputs)`."""
        raise NotImplementedError

    def scale(self, factor: float) -> None:
        """Multiplies `H`."""
        raise NotImplementedError

    @functools.cached_property
    def eigenvalues(self) -> Array:
        raise NotImplementedError

    def assign(self, posterior: Any, precision: float) -> None:
        raise NotImplementedError

    def draw(self, h: Array, precision: float, rng: np.random.Generator) -> Array:
        """A random change of the outputs `(N, units)`, as the posterior makes it."""
        raise NotImplementedError

    def _with_ones(self, h: Array) -> Array:
        return np.pad(h, [(0, 0), (0, int(self.use_bias))], constant_values=1.0)


class Full(Curvature):
    """All of `H`."""

    posterior = FullCovarianceNormal

    def __init__(self, inputs: int, units: int, use_bias: bool):
        super().__init__(inputs, units, use_bias)
        size = self.rows * units
        FullCovarianceNormal().check_size(size)
        self._h = np.zeros((size, size))

    def add(self, h: Array, curved: Curved) -> None:
        h = self._with_ones(h)
        blocks = self._h.reshape(self.rows, self.units, self.rows, self.units)
        for u in range(self.units):
            blocks[:, u, :, u] += (h * curved.diagonal[:, u : u + 1]).T @ h
        if curved.common is not None:
            outer = (h[:, :, None] * curved.common[:, None, :]).reshape(len(h), -1)
            self._h -= outer.T @ outer

    def scale(self, factor: float) -> None:
        self._h *= factor

    @functools.cached_property
    def _decomposed(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(self._h)
        return np.maximum(values, 0.0), vectors

    @property
    def eigenvalues(self) -> Array:
        return self._decomposed[0]

    def draw(self, h: Array, precision: float, rng: np.random.Generator) -> Array:
        values, vectors = self._decomposed
        noise = rng.standard_normal(len(values)) / np.sqrt(values + precision)
        weights = (vectors @ noise).reshape(self.rows, self.units)
        return self._with_ones(h) @ weights

    def assign(self, posterior: FullCovarianceNormal, precision: float) -> None:
        # The last row first: the inverse of the upper factor of a matrix is the
        # lower factor of its inverse.
        reversed_precision = (self._h + precision * np.eye(len(self._h)))[::-1, ::-1]
        upper = np.linalg.cholesky(reversed_precision)[::-1, ::-1]
        posterior.assign_root(np.tril(np.linalg.inv(upper).T))


class Diagonal(Curvature):
    """The diagonal of `H`."""

    posterior = MeanFieldNormal

    def __init__(self, inputs: int, units: int, use_bias: bool):
        super().__init__(inputs, units, use_bias)
        self._h = np.zeros((self.rows, units))

    def add(self, h: Array, curved: Curved) -> None:
        diagonal = curved.diagonal
        if curved.common is not None:
            diagonal = diagonal - curved.common**2
        self._h += (self._with_ones(h) ** 2).T @ diagonal

    def scale(self, factor: float) -> None:
        self._h *= factor

    @functools.cached_property
    def eigenvalues(self) -> Array:
        return np.maximum(self._h.ravel(), 0.0)

    def draw(self, h: Array, precision: float, rng: np.random.Generator) -> Array:
        variances = (1.0 / (self.eigenvalues + precision)).reshape(self._h.shape)
        scales = np.sqrt(self._with_ones(h) ** 2 @ variances)
        return scales * rng.standard_normal(scales.shape)

    def assign(self, posterior: MeanFieldNormal, precision: float) -> None:
        posterior.assign_diagonal((self.eigenvalues + precision) ** -0.5)


class Kronecker(Curvature):
    """`kron(mean of h h^T, sum of L)` for the kernel, `sum of L` for the bias."""

    posterior = KroneckerNormal

    def __init__(self, inputs: int, units: int, use_bias: bool):
        super().__init__(inputs, units, use_bias)
        self._count = 0
        self._of_inputs = np.zeros((inputs, inputs))
        self._of_units = np.zeros((units, units))

    def add(self, h: Array, curved: Curved) -> None:
        self._count += len(h)
        self._of_inputs += h.T @ h
        self._of_units += np.diag(curved.diagonal.sum(axis=0))
        if curved.common is not None:
            self._of_units -= curved.common.T @ curved.common

    def scale(self, factor: float) -> None:
        self._of_units *= factor

    @functools.cached_property
    def _decomposed(self) -> tuple[Array, Array, Array, Array]:
        inputs, input_vectors = np.linalg.eigh(self._of_inputs / self._count)
        units, unit_vectors = np.linalg.eigh(self._of_units)
        positive = np.maximum(inputs, 0.0), np.maximum(units, 0.0)
        return *positive, input_vectors, unit_vectors

    @functools.cached_property
    def eigenvalues(self) -> Array:
        inputs, units, _, _ = self._decomposed
        rows = np.append(inputs, 1.0) if self.use_bias else inputs
        return np.outer(rows, units).ravel()

    def draw(self, h: Array, precision: float, rng: np.random.Generator) -> Array:
        _, _, input_vectors, unit_vectors = self._decomposed
        variances = (1.0 / (self.eigenvalues + precision)).reshape(-1, self.units)
        scales = np.sqrt(self._with_ones(h @ input_vectors) ** 2 @ variances)
        return scales * rng.standard_normal(scales.shape) @ unit_vectors.T

    def assign(self, posterior: KroneckerNormal, precision: float) -> None:
        _, _, input_vectors, unit_vectors = self._decomposed
        rows = np.eye(self.rows)
        rows[: self.inputs, : self.inputs] = input_vectors
        scales = (self.eigenvalues + precision) ** -0.5
        posterior.assign_factors(rows, unit_vectors, scales)


STRUCTURES: dict[str, type[Curvature]] = {
    "full": Full,
    "kronecker": Kronecker,
    "diagonal": Diagonal,
}
