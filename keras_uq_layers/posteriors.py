"""Posteriors: normal distributions over one flat vector of weights.

The random weights of a layer, such as its kernel and its bias, form one
vector of `n` entries. So a posterior can correlate all of them, and one call
of the random number generator serves them all.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers._weight_distribution import WeightDistribution
from keras_uq_layers._weight_distribution import look_up
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.vector import unpack
from keras_uq_layers.registration import register

__all__ = [
    "FullCovarianceNormal",
    "KroneckerNormal",
    "LowRankNormal",
    "MeanFieldNormal",
    "Posterior",
    "get_posterior",
]

# Far below the scale of any trained posterior. It keeps log(scale) finite when
# softplus underflows.
_SCALE_FLOOR = 1e-8


class Posterior(WeightDistribution):
    """Abstract: a normal over the flat vector of a layer's random weights.

    Args:
        initial_scale: Initial standard deviation of every weight. `None` is a
            tenth of the Glorot standard deviation of the kernel,
            `0.1 * sqrt(2 / (fan_in + fan_out))`. This is small beside the
            initial kernel, so that training starts like the deterministic
            layer.
    """

    factorised = False

    def __init__(self, initial_scale: float | None = None):
        if initial_scale is not None:
            initial_scale = arguments.positive_float("initial_scale", initial_scale)
        self.initial_scale = initial_scale

    def build(
        self,
        add_weight: Callable[..., keras.Variable],
        mean_weights: dict[str, keras.Variable],
        glorot_scales: dict[str, float],
        regularizer: keras.regularizers.Regularizer,
        seed: int | None = None,
    ) -> None:
        """Creates the weights of the posterior other than its means.

        Args:
            add_weight: The layer's `add_weight`.
            mean_weights: Dict from the name of a random weight to the variable
                of the layer that holds its mean, in the order of the flat
                vector.
            glorot_scales: Dict from that name to the Glorot standard deviation.
            regularizer: A `keras.regularizers.Regularizer`; Keras adds its
                value, the weighted KL, once per forward pass.
            seed: Integer seed of random initial values.
        """
        self.mean_weights = mean_weights
        self._shapes = [tuple(weight.shape) for weight in mean_weights.values()]
        scales = np.repeat(
            [self.initial_scale or 0.1 * glorot for glorot in glorot_scales.values()],
            [math.prod(shape) for shape in self._shapes],
        )
        self.size = len(scales)
        self._raw_scale = add_weight(
            name="posterior_raw_scale",
            shape=(self.size,),
            initializer=lambda shape, dtype: positive_inverse(
                ops.convert_to_tensor(scales, dtype), _SCALE_FLOOR
            ),
            regularizer=regularizer,
        )
        self._build_correlation(add_weight, seed)

    def _build_correlation(
        self, add_weight: Callable[..., keras.Variable], seed: int | None
    ) -> None:
        """Creates the weights that correlate the entries, if any."""

    @property
    def noise_size(self) -> int:
        """How many standard normal numbers one draw takes."""
        return self.size

    def diagonal(self) -> Tensor:
        """The scale of each entry's own noise, a tensor of shape `(n,)`."""
        # Not `positive`: its guard against an infinite slope is a tenth of a training
        # step for so many numbers, and such a slope ruins a weight in any case.
        return _SCALE_FLOOR + ops.softplus(self._raw_scale.value)

    def assign_diagonal(self, scales: Array) -> None:
        """Sets what `diagonal` returns, in a layer that is built.

        Args:
            scales: Positive numbers `(n,)`.
        """
        scales = ops.convert_to_tensor(scales, self._raw_scale.dtype)
        # Below the floor, softplus has no inverse.
        scales = ops.maximum(scales, 2.0 * _SCALE_FLOOR)
        self._raw_scale.assign(positive_inverse(scales, _SCALE_FLOOR))

    def marginal_scale(self) -> Tensor:
        """Standard deviation of each weight, a tensor of shape `(n,)`."""
        raise NotImplementedError

    def perturbation(self, noise: Tensor) -> Tensor:
        """A draw less its mean, `(n,)`, from standard normal `(noise_size,)`."""
        raise NotImplementedError

    def total_correlation(self) -> Tensor | float:
        """Sum of the marginal entropies minus the joint one, in nats: a scalar.

        ```
        sum(log(marginal_scale)) - log(det(covariance)) / 2
        ```

        The KL to independent priors is the sum of the KLs of the single
        weights plus this number. It is never negative, and 0 for independent
        weights.
        """
        return 0.0

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Splits a flat tensor `(n,)` into a dict of the layer's weights."""
        return dict(zip(self.mean_weights, unpack(flat, self._shapes), strict=True))

    @property
    def mean(self) -> dict[str, Array]:
        """Dict from weight name to NumPy array, the posterior means."""
        return {k: ops.convert_to_numpy(w) for k, w in self.mean_weights.items()}

    @property
    def scale(self) -> dict[str, Array]:
        """Dict from weight name to NumPy array, the standard deviations."""
        scales = self.unpack(self.marginal_scale())
        return {k: ops.convert_to_numpy(v) for k, v in scales.items()}

    @property
    def signal_to_noise(self) -> dict[str, Array]:
        """`|mean| / scale` of each weight: dict from name to NumPy array.

        Weights with a small ratio can be set to 0 with little harm (Blundell
        et al. 2015, section 5.1.2, arXiv:1505.05424).
        """
        scale = self.scale
        return {name: abs(mean) / scale[name] for name, mean in self.mean.items()}

    def get_config(self) -> Config:
        return {"initial_scale": self.initial_scale}


@register("posteriors.MeanFieldNormal")
class MeanFieldNormal(Posterior):
    """Independent normals, one mean and one scale for each weight.

    ```
    w = loc + scale * eps,  eps ~ N(0, I)
    ```

    The default, and right for most models. Only this posterior allows flipout
    and local reparameterization.

    Args:
        initial_scale: Initial standard deviation of every weight. `None` is a
            tenth of the Glorot standard deviation of the kernel.

    Example:

    >>> posterior = uq.posteriors.MeanFieldNormal(initial_scale=0.01)
    >>> layer = uq.DenseVariational(2, kl_weight=0.01, posterior=posterior)
    >>> layer.build((None, 3))
    >>> layer.posterior.scale["kernel"].shape
    (3, 2)

    References:
        Graves, 2011, "Practical Variational Inference for Neural Networks",
        NeurIPS. Blundell et al., 2015, "Weight Uncertainty in Neural
        Networks", ICML, arXiv:1505.05424.
    """

    name = "mean_field"
    factorised = True

    def marginal_scale(self) -> Tensor:
        return self.diagonal()

    def perturbation(self, noise: Tensor) -> Tensor:
        return self.diagonal() * noise


@register("posteriors.LowRankNormal")
class LowRankNormal(Posterior):
    """A normal whose covariance is diagonal plus low rank.

    ```
    covariance = D (I + V V^T / n) D,   D = diag(d), V of shape (n, rank)
    ```

    Args:
        rank: Number of columns of `V`, a positive integer.
        initial_scale: As for `MeanFieldNormal`.

    Example:

    >>> uq.posteriors.LowRankNormal(rank=4)
    LowRankNormal(rank=4, initial_scale=None)

    References:
        Ong, Nott & Smith, 2018, "Gaussian variational approximation with a
        factor covariance structure", JCGS 27(3), arXiv:1701.03208.
    """

    name = "low_rank"

    def __init__(self, rank: int = 2, initial_scale: float | None = None):
        super().__init__(initial_scale)
        self.rank = arguments.positive_int("rank", rank)

    def _build_correlation(
        self, add_weight: Callable[..., keras.Variable], seed: int | None
    ) -> None:
        self._factor = add_weight(
            name="posterior_factor",
            shape=(self.size, self.rank),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed),
        )

    @property
    def noise_size(self) -> int:
        return self.size + self.rank

    def _shared_variance(self) -> Tensor:
        """Diagonal of `V V^T / n`."""
        factor = ops.convert_to_tensor(self._factor)
        return ops.sum(ops.square(factor), axis=-1) / self.size

    def marginal_scale(self) -> Tensor:
        return self.diagonal() * ops.sqrt(1.0 + self._shared_variance())

    def perturbation(self, noise: Tensor) -> Tensor:
        own, shared = noise[: self.size], noise[self.size :]
        common = ops.matmul(self._factor, shared) / math.sqrt(self.size)
        return self.diagonal() * (own + common)

    def total_correlation(self) -> Tensor:
        # det(I + V V^T / n) = det(I + V^T V / n), a small matrix.
        factor = ops.convert_to_tensor(self._factor)
        gram = ops.matmul(ops.transpose(factor), factor) / self.size
        root = ops.cholesky(ops.eye(self.rank, dtype=gram.dtype) + gram)
        half_log_det = ops.sum(ops.log(ops.diagonal(root)))
        return 0.5 * ops.sum(ops.log1p(self._shared_variance())) - half_log_det

    def get_config(self) -> Config:
        return {"rank": self.rank, **super().get_config()}


@register("posteriors.FullCovarianceNormal")
class FullCovarianceNormal(Posterior):
    """A normal with every correlation between the weights of a layer.

    ```
    w = loc + diag(d) (I + T / sqrt(n)) eps,   T strictly lower triangular
    ```

    The division by `sqrt(n)` makes the steps of an optimizer comparable to
    those of the diagonal. Without it training diverges. The posterior holds
    `n (n + 3) / 2` numbers.

    Args:
        initial_scale: As for `MeanFieldNormal`.
        max_entries: The largest number of entries of the triangle that is
            allowed.

    Raises:
        ValueError: A layer has more entries than `max_entries`.

    Example:

    >>> layer = uq.DenseVariational(16, kl_weight=1 / 5000, posterior="full_covariance")
    >>> layer.build((None, 16))
    >>> layer.count_params() - 1  # less the kl_weight
    37400

    References:
        Opper & Archambeau, 2009, "The Variational Gaussian Approximation
        Revisited", Neural Computation 21(3), doi:10.1162/neco.2008.08-07-592.
    """

    name = "full_covariance"

    def __init__(
        self, initial_scale: float | None = None, max_entries: int = 10_000_000
    ):
        super().__init__(initial_scale)
        self.max_entries = arguments.positive_int("max_entries", max_entries)

    def _build_correlation(
        self, add_weight: Callable[..., keras.Variable], seed: int | None
    ) -> None:
        self.check_size(self.size)
        entries = self.size * (self.size - 1) // 2
        self._triangle = add_weight(
            name="posterior_triangle", shape=(entries,), initializer="zeros"
        )

    def check_size(self, size: int) -> None:
        """Raises where `size` weights have more entries than are allowed."""
        entries = size * (size - 1) // 2
        if entries > self.max_entries:
            raise ValueError(
                f"A full covariance of {size} weights has {entries} entries, "
                f"more than `max_entries={self.max_entries}`. Use "
                '`posterior="low_rank"` or `posterior="mean_field"`, or raise '
                "`max_entries` of `posteriors.FullCovarianceNormal`."
            )

    def assign_root(self, root: Array) -> None:
        """Sets the covariance by its Cholesky factor, in a layer that is built.

        Args:
            root: Lower triangle `(n, n)` with a positive diagonal.
        """
        scales, k = np.diagonal(root), self.size - 1
        self.assign_diagonal(scales)
        unit = (root / scales[:, None])[1:, :-1] * math.sqrt(self.size)
        entries = self._triangle.shape[0]
        places = self._square(np.arange(entries), np)
        packed, below = np.empty(entries), np.tril_indices(k)
        packed[places[below]] = unit[below]
        self._triangle.assign(packed)

    def _square(self, packed: Any, backend: Any) -> Any:
        """The packed entries, written twice, as a square: its lower half holds
        each entry once. This is cheaper than a scatter."""
        k = self.size - 1
        square = backend.concatenate([packed[k:], backend.flip(packed)])
        return backend.reshape(square, (k, k))

    def _lower(self) -> Tensor:
        """Rows 1 to n-1 and columns 0 to n-2 of `T / sqrt(n)`."""
        square = self._square(ops.convert_to_tensor(self._triangle), ops)
        return ops.tril(square) / math.sqrt(self.size)

    def _shared_variance(self) -> Tensor:
        squares = ops.sum(ops.square(self._lower()), axis=-1)
        return ops.pad(squares, [[1, 0]])

    def marginal_scale(self) -> Tensor:
        return self.diagonal() * ops.sqrt(1.0 + self._shared_variance())

    def total_correlation(self) -> Tensor:
        # The factor is unit triangular: its determinant is 1.
        return 0.5 * ops.sum(ops.log1p(self._shared_variance()))

    def perturbation(self, noise: Tensor) -> Tensor:
        mixed = ops.pad(ops.matmul(self._lower(), noise[:-1]), [[1, 0]])
        return self.diagonal() * (noise + mixed)

    def get_config(self) -> Config:
        return {**super().get_config(), "max_entries": self.max_entries}


@register("posteriors.KroneckerNormal")
class KroneckerNormal(Posterior):
    """A normal whose correlations are those between inputs times those between
    outputs of a layer.

    ```
    W = loc + A (S * E) B^T,   E of standard normal entries
    A = I + R / sqrt(rows),    B = I + C / sqrt(units)
    ```

    `W` holds kernel and bias: a row for each input and one for the bias, a column
    for each unit. Where `S` is a product of a row and a column, this is the matrix
    normal distribution. The posterior holds `rows^2 + units^2 + rows * units`
    numbers, much fewer than a full covariance. `uq.to_laplace` writes the Laplace
    approximation with a Kronecker-factored curvature in this form.

    Args:
        initial_scale: As for `MeanFieldNormal`.

    Raises:
        ValueError: The random weights of a layer have last axes of different
            size.

    Example:

    >>> layer = uq.DenseVariational(16, kl_weight=1 / 5000, posterior="kronecker")
    >>> layer.build((None, 16))
    >>> layer.count_params() - 1  # less the kl_weight
    1089

    References:
        Louizos & Welling, 2016, "Structured and Efficient Variational Deep
        Learning with Matrix Gaussian Posteriors", ICML, arXiv:1603.04733. Ritter,
        Botev & Barber, 2018, "A Scalable Laplace Approximation for Neural
        Networks", ICLR.
    """

    name = "kronecker"

    def _build_correlation(
        self, add_weight: Callable[..., keras.Variable], seed: int | None
    ) -> None:
        widths = {weight.shape[-1] for weight in self.mean_weights.values()}
        if len(widths) > 1:
            shapes = {name: tuple(w.shape) for name, w in self.mean_weights.items()}
            raise ValueError(
                "A Kronecker-factored posterior must have weights with the same last "
                "axis, the units of one layer. Use another posterior, or make fewer "
                f"weights random. Received: weights of shapes {shapes}"
            )
        self.units = widths.pop()
        self.rows = self.size // self.units
        self._row_mixing = add_weight(
            name="posterior_rows", shape=(self.rows, self.rows), initializer="zeros"
        )
        self._unit_mixing = add_weight(
            name="posterior_units", shape=(self.units, self.units), initializer="zeros"
        )

    def assign_factors(self, rows: Array, units: Array, scales: Array) -> None:
        """Sets `A`, `B` and `S`, in a layer that is built.

        Args:
            rows: The matrix `A`, `(rows, rows)`.
            units: The matrix `B`, `(units, units)`.
            scales: The entries of `S`, positive numbers `(n,)`.
        """
        self.assign_diagonal(scales)
        self._row_mixing.assign((rows - np.eye(self.rows)) * math.sqrt(self.rows))
        self._unit_mixing.assign((units - np.eye(self.units)) * math.sqrt(self.units))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """`A` and `B`."""

        def factor(mixing: keras.Variable, size: int) -> Tensor:
            change = ops.convert_to_tensor(mixing) / math.sqrt(size)
            return ops.eye(size, dtype=change.dtype) + change

        rows = factor(self._row_mixing, self.rows)
        return rows, factor(self._unit_mixing, self.units)

    def _mixed(self, rows: Tensor, entries: Tensor, units: Tensor) -> Tensor:
        """`rows @ entries @ units^T`, from and to the flat vector."""
        matrix = ops.reshape(entries, (self.rows, self.units))
        product = ops.matmul(ops.matmul(rows, matrix), ops.transpose(units))
        return ops.reshape(product, (self.size,))

    def marginal_scale(self) -> Tensor:
        rows, units = self._factors()
        entries = ops.square(self.diagonal())
        return ops.sqrt(self._mixed(ops.square(rows), entries, ops.square(units)))

    def perturbation(self, noise: Tensor) -> Tensor:
        rows, units = self._factors()
        return self._mixed(rows, self.diagonal() * noise, units)

    def total_correlation(self) -> Tensor:
        rows, units = self._factors()
        spread = ops.sum(ops.log(self.marginal_scale()) - ops.log(self.diagonal()))
        return (
            spread
            - self.units * _log_determinant(rows)
            - self.rows * _log_determinant(units)
        )


def _log_determinant(matrix: Tensor) -> Tensor:
    """Log of the absolute value of the determinant, a scalar.

    Not by `ops.slogdet`: XLA has none in TensorFlow.
    """
    root = ops.cholesky(ops.matmul(matrix, ops.transpose(matrix)))
    return ops.sum(ops.log(ops.diagonal(root)))


def get_posterior(identifier: Identifier) -> Posterior:
    """A fresh posterior from a name, an object or its serialized form.

    Args:
        identifier: `"mean_field"`, `"low_rank"`, `"kronecker"`,
            `"full_covariance"`, or a `Posterior`, of which a copy without weights
            is returned.

    Returns:
        A `Posterior`.

    Raises:
        ValueError: No such posterior; the message lists the names.
    """
    classes = (MeanFieldNormal, LowRankNormal, FullCovarianceNormal, KroneckerNormal)
    return look_up("posterior", identifier, Posterior, classes)


_namespace.define(__name__)
