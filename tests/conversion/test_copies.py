"""A converted model has weights of its own, on every backend."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import layers

import keras_uq_layers as uq

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.arange(8) % 2
CONVERSIONS = {
    "to_bayesian": lambda model: uq.to_bayesian(model, kl_weight=0.1, layers="last"),
    "to_deterministic": uq.to_deterministic,
    "to_laplace": lambda model: uq.to_laplace(model, X, Y, verbose=0),
    "to_mc_dropout": uq.to_mc_dropout,
}


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A class that the user did not register, as the two functions below."""

    def __call__(self, step):
        return 0.01

    def get_config(self):
        return {}


def own_loss(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)


def own_metric(y_true, y_pred):
    return keras.ops.max(y_pred, axis=-1)


def test_no_conversion_is_missing():
    assert {*uq.conversion.__all__} == {*CONVERSIONS}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_what_happens_to_the_model_does_not_happen_to_the_copy(name):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, "tanh"),
            layers.Dropout(0.5),
            layers.Dense(2, "softmax", name="last"),
        ]
    )
    optimizer = keras.optimizers.Adam(OwnSchedule())
    model.compile(optimizer, own_loss, metrics=[own_metric])
    copy = CONVERSIONS[name](model)
    assert copy.loss is own_loss
    assert copy.optimizer is not optimizer
    before = [to_numpy(weight).copy() for weight in copy.weights]
    model.predict(X, verbose=0)
    model.fit(X, Y, verbose=0)
    for old, new in zip(before, copy.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(new), old)


def test_what_a_layer_has_adapted_to_is_copied():
    """It is no weight: the mean and variance in force, and a vocabulary."""
    normalization = layers.Normalization()
    normalization.adapt(5.0 + 3.0 * X)
    model = keras.Sequential(
        [keras.Input((3,)), normalization, layers.Dropout(0.5), layers.Dense(2)]
    )
    copy = uq.to_deterministic(uq.to_mc_dropout(model))
    np.testing.assert_allclose(to_numpy(copy(X)), to_numpy(model(X)), rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="strings are of TensorFlow alone"
)
def test_a_vocabulary_is_copied():
    import tensorflow as tf

    words = tf.constant(["a", "b", "other"])
    lookup = layers.StringLookup()
    lookup.adapt(["b", "a", "b"])
    inputs = keras.Input((), dtype="string")
    hidden = layers.Dropout(0.5)(layers.Embedding(3, 2)(lookup(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    copy = uq.to_deterministic(uq.to_mc_dropout(model))
    np.testing.assert_allclose(to_numpy(copy(words)), to_numpy(model(words)))
