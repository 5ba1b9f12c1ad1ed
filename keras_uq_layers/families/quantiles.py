from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.registration import register


def _pinball(y: Tensor, quantile: Tensor, level: Tensor) -> Tensor:
    """`level (y - q)` where `y > q`, else `(1 - level) (q - y)`.

    Its expectation is smallest where `q` is the quantile of that level.
    """
    return level * ops.relu(y - quantile) + (1.0 - level) * ops.relu(quantile - y)


@register("families.Quantiles")
class Quantiles(Family):
    """Quantiles of `y` at given levels, which cannot cross.

    ```
    params = [q_1 | q_2 | .. | q_Q],  q_1 < q_2 < .. < q_Q,  each of width D
    q_(i+1) = q_i + gap_floor + softplus(...),  from the middle level outwards
    ```

    A distribution without a likelihood: train it with
    `uq.losses.Pinball(levels)`. Between the levels `quantile` and `cdf`
    interpolate linearly; nothing is known outside of them, so that there is
    neither a mean nor a draw, and asking for them is an error.

    The scale floor of a head is the smallest distance between the outermost
    quantiles, shared by the gaps between them.

    Args:
        levels: Increasing probabilities in (0, 1), at least one.

    Raises:
        ValueError: `levels` is empty, not increasing or outside of (0, 1).

    Example:

    >>> family = uq.families.Quantiles([0.1, 0.5, 0.9])
    >>> params = np.array([[-1.0, 0.0, 2.0]])
    >>> round(float(family.quantile(0.7, params)[0, 0]), 4)
    1.0
    >>> round(float(family.cdf(np.array([1.0]), params)[0, 0]), 4)
    0.7

    Reference:
        Koenker & Bassett, 1978, "Regression Quantiles", Econometrica 46(1),
        doi:10.2307/1913643.
    """

    name = "quantiles"
    target_unit = "affine"

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = arguments.levels("levels", levels)
        self.parameters = tuple(f"q{level:g}" for level in self.levels)
        # The features of all but the middle quantile are gaps.
        self.spread = tuple(
            name for i, name in enumerate(self.parameters) if i != self._middle
        )

    @property
    def _middle(self) -> int:
        return int(np.argmin(np.abs(np.array(self.levels) - 0.5)))

    def _gap_floor(self, scale_floor: float) -> float:
        return scale_floor / max(len(self.levels) - 1, 1)

    def constrain_parts(self, *raw: Tensor, scale_floor: float) -> tuple[Tensor, ...]:
        floor, middle = self._gap_floor(scale_floor), self._middle
        parts = list(raw)
        for i in range(middle + 1, len(raw)):
            parts[i] = parts[i - 1] + positive(raw[i], floor)
        for i in range(middle - 1, -1, -1):
            parts[i] = parts[i + 1] - positive(raw[i], floor)
        return tuple(parts)

    def unconstrain_parts(
        self, *parts: Tensor, scale_floor: float
    ) -> tuple[Tensor, ...]:
        floor, middle = self._gap_floor(scale_floor), self._middle
        raw = list(parts)
        for i in range(len(parts)):
            if i > middle:
                raw[i] = positive_inverse(parts[i] - parts[i - 1], floor)
            if i < middle:
                raw[i] = positive_inverse(parts[i + 1] - parts[i], floor)
        return tuple(raw)

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return tuple(scale * NormalDist().inv_cdf(level) for level in self.levels)

    def _stack(self, params: Tensor) -> Tensor:
        return ops.stack(self.split(params), axis=-1)

    def pinball(self, y: Tensor, params: Tensor) -> Tensor:
        """Pinball score, averaged over the levels: `(..., D)`.

        In the unit of `y`; twice this is close to the CRPS where the levels
        are many and evenly spread.

        Args:
            y: Tensor of shape `(..., D)`, or `(...)` where `D` is 1.
            params: Tensor of shape `(..., Q * D)`.

        Returns:
            Tensor of shape `(..., D)`, float32 or wider.
        """
        quantiles = self._stack(params)
        y = ops.expand_dims(self.align(y, params), -1)
        levels = ops.convert_to_tensor(self.levels, dtype=quantiles.dtype)
        score = _pinball(y, quantiles, levels)
        # A mean of Keras would be in float32 on PyTorch.
        return ops.sum(score, axis=-1) / len(self.levels)

    def in_domain(self, params: Tensor) -> Tensor:
        """Where the quantiles do not cross, and none is NaN: booleans `(...)`."""
        quantiles = self._stack(params)
        ordered = ops.all(quantiles[..., 1:] >= quantiles[..., :-1], axis=(-2, -1))
        return ordered & super().in_domain(params)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        """Linear between the quantiles; clipped to the outermost levels.

        Where two of them are equal, it jumps.
        """
        quantiles = self.split(params)
        y = ops.cast(self.align(y, params), quantiles[0].dtype)
        value = ops.full_like(y, self.levels[0])
        for i in range(1, len(quantiles)):
            low, high = quantiles[i - 1], quantiles[i]
            equal = high <= low
            gap = ops.where(equal, ops.ones_like(low), high - low)
            share = divide(between(y - low, 0.0, gap), gap)
            share = ops.where(equal, ops.cast(y >= low, share.dtype), share)
            value = value + (self.levels[i] - self.levels[i - 1]) * share
        return value

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        value = np.full(
            np.broadcast_shapes(np.shape(y), parts[0].shape), self.levels[0]
        )
        for i in range(1, len(parts)):
            low, gap = parts[i - 1], parts[i] - parts[i - 1]
            share = np.clip((y - low) / np.where(gap > 0.0, gap, 1.0), 0.0, 1.0)
            share = np.where(gap > 0.0, share, y >= low)
            value += (self.levels[i] - self.levels[i - 1]) * share
        return value

    def array_bounds(self, *parts: Array) -> tuple[Array, Array]:
        """The outermost quantiles: nothing is known beyond them."""
        return parts[0], parts[-1]

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        """Linear between the levels.

        Args:
            p: Probability between the outermost levels, a float or array.
            params: Tensor of shape `(..., Q * D)`.

        Returns:
            Tensor of shape `(..., D)`.

        Raises:
            ValueError: `p` is outside of the levels, where nothing is known.
        """
        array = np.asarray(ops.convert_to_numpy(p), dtype="float64")
        # To float32 precision: 1 - 0.9 is not exactly 0.1.
        low, high = self.levels[0] - 1e-6, self.levels[-1] + 1e-6
        if not ((array >= low) & (array <= high)).all():
            raise ValueError(
                f"`p` must be between the outermost levels, {self.levels[0]:g} and "
                f"{self.levels[-1]:g}: the family {self.name!r} knows nothing "
                f"outside of them. Received: p={p!r}"
            )
        quantiles = self.split(params)
        p = ops.convert_to_tensor(array, dtype=quantiles[0].dtype)
        value = quantiles[0] + ops.zeros_like(p)
        for i in range(1, len(quantiles)):
            low, high = self.levels[i - 1], self.levels[i]
            share = ops.clip((p - low) / (high - low), 0.0, 1.0)
            value = value + share * (quantiles[i] - quantiles[i - 1])
        return value

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        raise self._missing("log_prob", "`uq.losses.Pinball(levels)`")

    def mean(self, params: Tensor) -> Tensor:
        raise self._missing("mean", "the median, the quantile of 0.5,")

    def variance(self, params: Tensor) -> Tensor:
        raise self._missing("variance", "the distance of two quantiles")

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        raise self._missing("CRPS", "the `pinball` score")

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        raise self._missing("sample", "a `quantile` between the levels")

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        return self.join(*(shift + factor * part for part in self.split(params)))

    def get_config(self) -> Config:
        return {"levels": list(self.levels)}
