"""Small models and predictions that several tests share."""

import re
import warnings

import keras
import numpy as np

import keras_uq_layers as uq


def normal_model(random=True, width=6, **head):
    layers = [keras.layers.Dense(width, "tanh"), keras.layers.Dropout(0.5)]
    if random:
        layers.append(uq.DenseVariational(width, "tanh", kl_weight=0.01, seed=5))
    model = keras.Sequential([*layers, uq.DistributionHead(1, **head)])
    model.build((None, 3))
    return model


def inputs(rows=37):
    return np.random.default_rng(1).normal(size=(rows, 3)).astype("float32")


def predict(model, x, **options):
    options = {"samples": 8, "seed": 0, "verbose": 0, **options}
    return uq.predict(model, x, **options)


def normal_mixture(passes=30, rows=5, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    loc = spread * rng.normal(size=(passes, rows, 1))
    return uq.Prediction(
        np.concatenate([loc, rng.uniform(0.2, 1.5, loc.shape)], axis=-1), "normal"
    )


def with_one_warning(text, call):
    """What `call()` returns; it must warn of this once, and of nothing else.

    `pytest.warns` would raise what PyTorch says of NumPy, too.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = call()
    said = [str(w.message) for w in said if issubclass(w.category, UserWarning)]
    assert len(said) == 1, said
    assert re.search(text, said[0])
    return result
