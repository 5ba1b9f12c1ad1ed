"""The abstract class of layers with dropout at inference."""

from typing import Any

import keras

from keras_uq_layers import _random
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.layers._seeding import SeedGenerator


def dropout_rate(name: str, rate: float) -> float:
    """A share in `[0, 1)`."""
    rate = arguments.probability(name, rate)
    if rate == 1:
        raise arguments.error(name, "below 1", rate)
    return rate


class MonteCarloDropout(SavedSeeds):
    """Abstract: dropout in training and at inference.

    A subclass gives `_noise_shape(inputs)`, the shape of the mask.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = dropout_rate("rate", rate)
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if self.rate == 0:
            return inputs
        return _random.dropout(
            inputs,
            self.rate,
            self._noise_shape(inputs),
            self.seed_generator.per_example(),
        )

    def _noise_shape(self, inputs: Tensor) -> tuple:
        raise NotImplementedError

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array]]:
        """The identity, for `to_deterministic`."""
        return keras.layers.Identity(name=self.name, dtype=self.dtype_policy.name), []

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
