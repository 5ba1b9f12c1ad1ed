"""A model with each layer of Keras that drops in training, by discovery."""

import inspect

import keras
import numpy as np
from keras import layers

RATES = {"rate", "dropout", "recurrent_dropout"}
X = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
_SIZES = {
    "units": 2,
    "filters": 1,
    "kernel_size": 1,
    "num_heads": 1,
    "key_dim": 2,
    "head_dim": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
}
# The shape of `X` for the layers that do not take `(batch, time, features)`.
_SHAPES = {
    "ConvLSTM1D": (2, 2, 3),
    "ConvLSTM2D": (2, 2, 1, 3),
    "ConvLSTM3D": (2, 2, 1, 1, 3),
    "SpatialDropout2D": (2, 2, 3),
    "SpatialDropout3D": (2, 2, 1, 3),
}


def dropping_classes():
    """All layers of Keras with an argument that is a rate of dropout, by name."""
    return {
        name: cls
        for name, cls in vars(layers).items()
        if isinstance(cls, type) and RATES & _arguments(cls)
    }


def _arguments(cls):
    return set(inspect.signature(cls.__init__).parameters)


def make_layer(cls, seed=None):
    """A small layer; a cell in a layer that runs it."""
    names = _arguments(cls)
    rates = dict.fromkeys(RATES & names, 0.5)
    sizes = {name: size for name, size in _SIZES.items() if name in names}
    layer = cls(**sizes, **rates, seed=seed)
    return layers.RNN(layer) if cls.__name__.endswith("Cell") else layer


def dropping_model(seed=None):
    """A functional model: one branch for each class, with the name of it."""
    inputs = keras.Input(X.shape[1:])
    branches = []
    for name, cls in dropping_classes().items():
        layer = make_layer(cls, seed)
        layer.name = name
        h = layers.Reshape(_SHAPES.get(name, X.shape[1:]))(inputs)
        if "Attention" in name:
            two = name in ("Attention", "AdditiveAttention")
            h = layer([h, h]) if two else layer(h, h)
        else:
            h = layer(h)
        branches.append(layers.Flatten()(h))
    return keras.Model(inputs, layers.Concatenate()(branches))


def branches_of(model):
    """The same model with an output for each branch, by the name of its class."""
    names = dropping_classes()
    outputs = {p.name: p.output for p in model.layers if p.name in names}
    return keras.Model(model.inputs[0], outputs)
