"""What the layers with dropout at inference share."""

import keras

from keras_uq_layers import arguments
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.layers._seeding import SeedGenerator


def dropout_rate(name, rate):
    rate = arguments.probability(name, rate)
    if rate == 1:
        raise arguments.error(name, "below 1", rate)
    return rate


class MonteCarloDropout(SavedSeeds, keras.layers.Layer):
    """Abstract: dropout whatever `training` says.

    A subclass gives `_noise_shape(inputs)`.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = dropout_rate("rate", rate)
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs, training=False):
        if self.rate == 0:
            return inputs
        return keras.random.dropout(
            inputs,
            self.rate,
            noise_shape=self._noise_shape(inputs),
            seed=self.seed_generator.per_example(),
        )

    def _noise_shape(self, inputs):
        raise NotImplementedError

    def deterministic(self):
        """The plain layer that this one is on average, and its weights."""
        return keras.layers.Identity(name=self.name, dtype=self.dtype_policy.name), []

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
