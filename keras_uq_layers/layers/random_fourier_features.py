import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.batches import RowSample
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.registration import register

# For each kernel the order of its norm, and the distance between two rows of F
# independent standard normal numbers, divided by F^(1 / order).
_NORMS = {"gaussian": 2, "laplacian": 1}
_STANDARDISED = {"gaussian": math.sqrt(2.0), "laplacian": 2.0 / math.sqrt(math.pi)}
# The median distance of that many rows is known to a few percent.
_ROWS = 500


@register("RandomFourierFeatures")
class RandomFourierFeatures(keras.layers.Layer):
    """Random features whose inner product is a kernel: near 1 for inputs that are
    close to each other, 0 for inputs that are far apart.

    ```
    phi(x)          = sqrt(2 / features) * cos(x @ directions / kernel_scale + phases)
    phi(x) . phi(z) = kernel(x, z) + O(1 / sqrt(features))

    "gaussian":   kernel(x, z) = exp(-|x - z|_2^2 / (2 kernel_scale^2))
    "laplacian":  kernel(x, z) = exp(-|x - z|_1 / kernel_scale)
    ```

    A linear layer on such features with a normal posterior of its weights is a
    Gaussian process with that kernel, as the number of features grows. Unlike a
    network of ReLU units it is sure only where there is data: its epistemic
    standard deviation returns to that of the prior away from the training rows.
    Directions and phases are drawn when the layer is built, and never trained.

    The kernel sees distances of its input. After a network they mean something
    only if the network keeps them: use residual blocks and
    `keras.layers.SpectralNormalization`.

    Args:
        features: Number of features, a positive integer.
        kernel_scale: The distance over which the kernel falls, in the unit of
            the input: a positive float, or `"auto"`. Then `adapt(x)` sets it to
            the median distance between rows. Without `adapt` it is the distance
            of two rows whose entries are independent with mean 0 and standard
            deviation 1.
        kernel: `"gaussian"` or `"laplacian"`.
        seed: Integer seed of directions and phases, or None.
        **kwargs: As for `keras.layers.Layer`.

    Attributes:
        kernel_scale: The scale, a variable that is not trained.

    Call arguments:
        inputs: Tensor.

    Input shape:
        `(batch, ..., F)`.

    Output shape:
        `(batch, ..., features)`.

    Raises:
        ValueError: `features` is not a positive integer, `kernel_scale` is
            neither positive and finite nor `"auto"`, or an unknown kernel.

    Example:

    >>> layer = uq.RandomFourierFeatures(4096, kernel_scale=2.0, seed=1)
    >>> near, far = layer(np.array([[0.0, 0.0], [2.0, 0.0]]))
    >>> bool(abs(ops.sum(near * far) - np.exp(-0.5)) < 0.05)
    True

    References:
        Rahimi & Recht, 2007, "Random Features for Large-Scale Kernel Machines",
        NeurIPS. Liu et al., 2020, "Simple and Principled Uncertainty Estimation
        with Deterministic Deep Learning via Distance Awareness", NeurIPS,
        arXiv:2006.10108.
    """

    def __init__(
        self,
        features: int,
        kernel_scale: str | float = "auto",
        kernel: str = "gaussian",
        seed: int | None = None,
        **kwargs: Any,
    ):
        # No autocast: in half precision a phase of many turns has no digits.
        super().__init__(autocast=False, **kwargs)
        self.features = arguments.positive_int("features", features)
        self.kernel = arguments.one_of("kernel", kernel, tuple(_NORMS))
        if isinstance(kernel_scale, str):
            arguments.one_of("kernel_scale", kernel_scale, ("auto",))
            self._given_scale = None
        else:
            self._given_scale = arguments.positive_float("kernel_scale", kernel_scale)
        self._adapted_scale: float | None = None
        self.seed = seed
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                "The last axis of the input of `RandomFourierFeatures` must have a "
                f"known size. Received: input_shape={tuple(input_shape)}"
            )
        standardised = _STANDARDISED[self.kernel] * size ** (1 / _NORMS[self.kernel])
        scale = self._given_scale or self._adapted_scale or standardised
        # The characteristic function of the directions is the kernel.
        seed = self.seed
        if self.kernel == "gaussian":
            directions = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        else:
            directions = _Cauchy(seed=seed)
        # With the seed of the directions, the phases would depend on them.
        phases = keras.initializers.RandomUniform(
            0.0, 2.0 * math.pi, seed=None if seed is None else seed + 1
        )
        self.kernel_scale = self._add_constant(
            "kernel_scale", (), keras.initializers.Constant(scale)
        )
        self.directions = self._add_constant(
            "directions", (size, self.features), directions
        )
        self.phases = self._add_constant("phases", (self.features,), phases)

    def _add_constant(
        self, name: str, shape: Shape, initializer: keras.initializers.Initializer
    ) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=at_least_float32(self.variable_dtype),
            initializer=initializer,
            trainable=False,
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        inputs = ops.cast(inputs, at_least_float32(self.compute_dtype))
        turns = ops.matmul(inputs / self.kernel_scale, self.directions) + self.phases
        features = math.sqrt(2.0 / self.features) * ops.cos(turns)
        return ops.cast(features, self.compute_dtype)

    def adapt(self, x: Array | Tensor | Iterable) -> None:
        """Sets the kernel scale to the median distance between rows.

        The distance is that of the kernel: Euclidean for `"gaussian"`, the sum
        of absolute differences for `"laplacian"`. With many rows, 500 of them
        stand for all; they are the same in each call. Call it before `fit`, on
        training inputs of this layer: inside a model, on the output of the
        layers in front of it.

        Args:
            x: Array or tensor of inputs of this layer, `(..., F)`, or an
                iterable of such batches, for example a `tf.data.Dataset`.

        Raises:
            ValueError: `kernel_scale` was given as a number; `x` has fewer than
                two rows, is not finite, or its rows are alike.
        """
        if self._given_scale is not None:
            raise ValueError(
                "`adapt` needs kernel_scale='auto': a scale that was given as a "
                f"number stays. Received: kernel_scale={self._given_scale}"
            )
        rows = _some_rows(x)
        pairs = [
            np.linalg.norm(rows[i + 1 :] - rows[i], _NORMS[self.kernel], axis=-1)
            for i in range(len(rows) - 1)
        ]
        scale = float(np.median(np.concatenate(pairs))) if pairs else 0.0
        if not scale > 0:
            raise ValueError(
                "`x` must hold rows that differ, with a median distance above 0. "
                f"Received: {len(rows)} row(s), median distance {scale}"
            )
        self._adapted_scale = scale
        if self.built:
            self.kernel_scale.assign(scale)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.features)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "features": self.features,
            "kernel_scale": self._given_scale or "auto",
            "kernel": self.kernel,
            "seed": self.seed,
        }


class _Cauchy(keras.initializers.RandomUniform):
    """Numbers of a standard Cauchy distribution, by its quantile function."""

    def __init__(self, seed: int | None = None):
        super().__init__(-0.5, 0.5, seed=seed)

    def __call__(self, shape: Shape, dtype: Any = None) -> Tensor:
        return ops.tan(math.pi * super().__call__(shape, dtype))


def _some_rows(x: Any) -> Array:
    """At most `_ROWS` rows of a batch or of all batches, as float64 `(rows, F)`."""
    batches = [x] if hasattr(x, "shape") or isinstance(x, (list, tuple)) else x
    sample = RowSample(_ROWS)
    for batch in batches:
        found = np.asarray(ops.convert_to_numpy(batch), dtype="float64")
        found = found.reshape(-1, found.shape[-1])
        if not np.isfinite(found).all():
            raise ValueError(
                "`x` must be finite. Received: "
                f"{np.count_nonzero(~np.isfinite(found))} NaN or infinite value(s)"
            )
        sample.add(found)
    return sample.arrays[0] if sample.arrays else np.zeros((0, 0))
