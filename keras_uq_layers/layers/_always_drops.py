"""Layers of Keras with dropout inside, in a form that drops at inference, too.

They are what `uq.to_mc_dropout` makes of the layers of a model. Their
registered names are part of saved files.
"""

import functools
import inspect
from typing import Any

import keras

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.layers._seeding import refuse_export_without_state
from keras_uq_layers.layers.mc_dropout import MCDropout
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout1D
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout2D
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout3D
from keras_uq_layers.registration import register


class AlwaysDrops(SavedSeeds):
    """Abstract: a layer of Keras that drops at inference as in training.

    A subclass inherits all else from that layer, its `_plain`.
    """

    _plain: type[keras.layers.Layer]

    def _saved_generators(self) -> list[keras.random.SeedGenerator]:
        # A recurrent layer draws from the generator of its cell, attention from
        # that of a `Dropout` inside. Neither saves it.
        return _keras.own_seed_generators(self)

    def get_config(self) -> Config:
        config = super().get_config()
        # `SimpleRNN` of Keras 3.15 does not write down its seed.
        return config if "seed" in config else {**config, "seed": self.cell.seed}

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array] | None]:
        """The layer of Keras, for `to_deterministic`."""
        weights = self.get_weights() if self.built else None
        return self._plain.from_config(self.get_config()), weights


def _always_drops(plain: type[keras.layers.Layer]) -> type[AlwaysDrops]:
    """A registered subclass of a layer that is always called in training mode."""
    signature = inspect.signature(plain.call)

    @functools.wraps(plain.call)  # Keras reads the arguments from its signature.
    def call(self: AlwaysDrops, *args: Any, **kwargs: Any) -> Any:
        refuse_export_without_state(keras.tree.flatten((args, kwargs))[0])
        bound = signature.bind(self, *args, **kwargs)
        bound.arguments["training"] = True
        return plain.call(*bound.args, **bound.kwargs)

    name = f"MC{plain.__name__}"
    doc = f"`keras.layers.{plain.__name__}` that drops at inference, too."
    body = {"__module__": __name__, "__doc__": doc, "_plain": plain, "call": call}
    return register(name)(type(name, (AlwaysDrops, plain), body))


# Every layer of Keras with dropout, and the class that drops at inference, too.
ALWAYS_DROPPING: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.Dropout: MCDropout,
    keras.layers.SpatialDropout1D: SpatialMCDropout1D,
    keras.layers.SpatialDropout2D: SpatialMCDropout2D,
    keras.layers.SpatialDropout3D: SpatialMCDropout3D,
    **{
        plain: _always_drops(plain)
        for plain in (
            keras.layers.AdditiveAttention,
            keras.layers.AlphaDropout,
            keras.layers.Attention,
            keras.layers.ConvLSTM1D,
            keras.layers.ConvLSTM2D,
            keras.layers.ConvLSTM3D,
            keras.layers.GRU,
            keras.layers.GRUCell,
            keras.layers.GaussianDropout,
            keras.layers.GroupQueryAttention,
            keras.layers.LSTM,
            keras.layers.LSTMCell,
            keras.layers.MultiHeadAttention,
            keras.layers.SimpleRNN,
            keras.layers.SimpleRNNCell,
        )
    },
}
