"""The generalised Gauss-Newton matrix of a last layer, and its inverse.

```
H = sum over rows n of kron(h_n h_n^T, L_n)
```

`h` are the inputs of the layer, with a 1 for the bias, `L` is the negative
Hessian of the log likelihood in the outputs. Each class holds `H`, or a bound of
it, in a structure of its own, in float64 on the host. `eigenvalues` are those of
`H`, and `assign(posterior, precision)` makes the inverse of `H + precision * I` the
covariance of a posterior. The order of the weights is that of the flat vector of
`posteriors`: a row of units for each input, then the bias.
"""

import functools
from collections.abc import Iterator
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

    Attributes:
        temperature: Factor of the covariance that `assign` writes.
    """

    posterior: type[Posterior]
    temperature = 1.0

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
        if curved.cross is not None:
            for u, v in _partners(self.units):
                product = (h * curved.cross[:, u : u + 1]).T @ h
                blocks[:, u, :, v] += product
                blocks[:, v, :, u] += product

    def scale(self, factor: float) -> None:
        self._h *= factor

    @functools.cached_property
    def eigenvalues(self) -> Array:
        return np.maximum(np.linalg.eigvalsh(self._h), 0.0)

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
        if curved.cross is not None:
            for u, v in _partners(self.units):
                self._of_units[[u, v], [v, u]] += curved.cross[:, u].sum()

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

    def assign(self, posterior: KroneckerNormal, precision: float) -> None:
        _, _, input_vectors, unit_vectors = self._decomposed
        rows = np.eye(self.rows)
        rows[: self.inputs, : self.inputs] = input_vectors
        scales = (self.eigenvalues + precision) ** -0.5
        posterior.assign_factors(rows, unit_vectors, scales)


class Bound(Curvature):
    """`kron(sum of h h^T, bound * I)`, which is nowhere below `H`.

    Where a network is sure of a training row, the curvature of a softmax is nearly
    0 there, and `H` forgets the row. The bound does not.
    """

    posterior = KroneckerNormal

    def __init__(self, inputs: int, units: int, use_bias: bool):
        super().__init__(inputs, units, use_bias)
        self._h = np.zeros((self.rows, self.rows))
        self._bound = 0.0

    def add(self, h: Array, curved: Curved) -> None:
        assert curved.bound is not None
        h = self._with_ones(h)
        self._bound = curved.bound
        self._h += curved.bound * h.T @ h

    @functools.cached_property
    def _decomposed(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(self._h)
        return np.maximum(values, 0.0), vectors

    @property
    def eigenvalues(self) -> Array:
        return np.repeat(self._decomposed[0], self.units)

    def left_out_variances(self, h: Array, precision: float) -> Array:
        """Variances of the outputs at training rows, each by all other rows.

        They are those at a temperature of 1, from the posterior with all rows by
        the formula of Sherman and Morrison.

        Args:
            h: Rows that were added, `(N, inputs)`.
            precision: Prior precision.

        Returns:
            Array `(N,)`: all units have the same.
        """
        values, vectors = self._decomposed
        variances = (self._with_ones(h) @ vectors) ** 2 @ (1.0 / (values + precision))
        # 0 where the row alone determines a direction, but for rounding.
        rest = np.maximum(1.0 - self._bound * variances, np.finfo("float64").eps)
        return variances / rest

    def assign(self, posterior: KroneckerNormal, precision: float) -> None:
        _, vectors = self._decomposed
        scales = np.sqrt(self.temperature / (self.eigenvalues + precision))
        posterior.assign_factors(vectors, np.eye(self.units), scales)


def _partners(units: int) -> Iterator[tuple[int, int]]:
    """The pairs of units that `Curved.cross` is about."""
    return zip(range(units // 2), range(units // 2, units), strict=True)


BOUND = "bound"
STRUCTURES: dict[str, type[Curvature]] = {
    "full": Full,
    "kronecker": Kronecker,
    "diagonal": Diagonal,
    BOUND: Bound,
}
