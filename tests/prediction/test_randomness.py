"""A model that is random at inference is never run once and called certain."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from small_models import with_one_warning

import keras_uq_layers as uq
from keras_uq_layers.prediction.sampler import make_plan

BACKEND = keras.backend.backend()
ROWS, WIDTH = 12, 4
X = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype("float32")
IMAGES = np.random.default_rng(0).uniform(size=(ROWS, 4, 4, 3)).astype("float32")

# Constructor arguments of all layers of Keras that are random in training, by
# class; `test_no_random_layer_is_forgotten` looks for more of them.
RANDOM = {
    layers.AlphaDropout: {"rate": 0.4},
    layers.Dropout: {"rate": 0.4},
    layers.GaussianDropout: {"rate": 0.4},
    layers.GaussianNoise: {"stddev": 0.4},
    layers.SpatialDropout1D: {"rate": 0.4},
    layers.SpatialDropout2D: {"rate": 0.4},
    layers.SpatialDropout3D: {"rate": 0.4},
}
AXES = {
    layers.SpatialDropout1D: 1,
    layers.SpatialDropout2D: 2,
    layers.SpatialDropout3D: 3,
}


def random_call(kind, h, **call):
    """The output of a random layer on features `(B, 4)`, called so."""
    axes = AXES.get(kind, 0)
    h = layers.Reshape((*[1] * axes, WIDTH))(h)
    return layers.Flatten()(kind(**RANDOM[kind])(h, **call))


def functional(kind, training=True):
    x = keras.Input((WIDTH,))
    h = random_call(kind, layers.Dense(WIDTH)(x), training=training)
    return keras.Model(x, uq.DistributionHead(1)(h))


def nested(kind):
    """A model called with `training=True` in another one."""
    x = keras.Input((WIDTH,))
    inner = keras.Model(x, random_call(kind, layers.Dense(WIDTH)(x)))
    return keras.Model(x, uq.DistributionHead(1)(inner(x, training=True)))


def deeper(kind):
    """A random call in a model in a model."""
    x = keras.Input((WIDTH,))
    inner = keras.Model(x, random_call(kind, layers.Dense(WIDTH)(x), training=True))
    return keras.Model(x, uq.DistributionHead(1)(inner(x)))


def sequential(kind):
    x = keras.Input((WIDTH,))
    inner = keras.Model(x, random_call(kind, x, training=True))
    return keras.Sequential([x, layers.Dense(WIDTH), inner, uq.DistributionHead(1)])


class Subclassed(keras.Model):
    def __init__(self, kind):
        super().__init__()
        self.axes = AXES.get(kind, 0)
        self.noise, self.head = kind(**RANDOM[kind]), uq.DistributionHead(1)

    def call(self, inputs):
        h = ops.reshape(inputs, (-1, *[1] * self.axes, WIDTH))
        return self.head(ops.reshape(self.noise(h, training=True), (-1, WIDTH)))


BUILDERS = [functional, nested, deeper, sequential, Subclassed]


def is_random(model, x=X, **options):
    prediction = uq.predict(model, x, samples=3, seed=0, verbose=0, **options)
    again = uq.predict(model, x, samples=3, seed=0, verbose=0, **options)
    if BACKEND != "torch":  # where an unseeded dropout ignores its generator
        np.testing.assert_array_equal(prediction.samples, again.samples)
    return len(prediction.samples) == 3 and (prediction.epistemic_std > 0).any()


@pytest.mark.parametrize("kind", RANDOM, ids=lambda kind: kind.__name__)
def test_a_random_layer_called_in_training_mode(kind):
    assert is_random(functional(kind))


@pytest.mark.parametrize("build", BUILDERS[1:], ids=lambda build: build.__name__)
def test_a_random_call_in_any_kind_of_model(build):
    assert is_random(build(layers.Dropout))


# Layers of Keras that are random inside: in a cell, or in the scores.
INSIDE = {
    "lstm": lambda h, **call: layers.LSTM(3, dropout=0.4)(h, **call),
    "gru": lambda h, **call: layers.GRU(3, recurrent_dropout=0.4)(h, **call),
    "cells": lambda h, **call: layers.RNN(
        [layers.LSTMCell(3, dropout=0.4), layers.SimpleRNNCell(3)]
    )(h, **call),
    "bidirectional": lambda h, **call: layers.Bidirectional(
        layers.SimpleRNN(3, dropout=0.4)
    )(h, **call),
    "time distributed": lambda h, **call: layers.TimeDistributed(layers.Dropout(0.4))(
        h, **call
    ),
    "multi-head attention": lambda h, **call: layers.MultiHeadAttention(
        2, 2, dropout=0.4
    )(h, h, **call),
    "grouped attention": lambda h, **call: layers.GroupQueryAttention(
        2, 2, 1, dropout=0.4
    )(h, h, **call),
    "attention": lambda h, **call: layers.Attention(dropout=0.4)([h, h], **call),
    "additive attention": lambda h, **call: layers.AdditiveAttention(dropout=0.4)(
        [h, h], **call
    ),
}


# On TensorFlow and JAX, recurrent layers of Keras draw their masks in any case. The
# seeds move, so that such a model is run as a random one, and its passes are equal.
DRAWS_WITHOUT_USE = {"lstm", "gru", "cells", "bidirectional"}
if BACKEND == "torch":
    DRAWS_WITHOUT_USE = set()


@pytest.mark.parametrize("training", [True, None])
@pytest.mark.parametrize("name", INSIDE)
def test_a_layer_that_is_random_inside(name, training):
    x = keras.Input((WIDTH,))
    h = INSIDE[name](layers.Reshape((2, 2))(x), training=training)
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(h)))
    plan, _ = make_plan(model, ops.convert_to_tensor(X))
    assert plan.random == (training is True or name in DRAWS_WITHOUT_USE)


def test_masks_that_are_drawn_without_use():
    x = keras.Input((WIDTH,))
    h = INSIDE["lstm"](layers.Reshape((2, 2))(x))
    model = keras.Model(x, layers.Dense(1)(h))
    prediction = uq.predict(model, X, verbose=0)
    assert (prediction.samples == prediction.samples[0]).all()
    y = prediction.mean + np.arange(ROWS)[:, None]
    for given in (prediction, uq.predict(model, X, verbose=0, keep_samples=False)):
        calibrator = uq.calibration.SplitConformal(0.5).fit(given, y)
        assert calibrator.residuals == "absolute"


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("kind", RANDOM, ids=lambda kind: kind.__name__)
def test_each_random_layer_in_each_kind_of_model(kind, build):
    """The plan of `predict` says so, without its graph."""
    model = build(kind)
    model(X)
    plan, _ = make_plan(model, ops.convert_to_tensor(X))
    assert plan.random


def test_no_random_layer_is_forgotten():
    """Layers of Keras that own a seed generator once they exist."""
    found = set()
    for name in dir(layers):
        kind = getattr(layers, name)
        if not isinstance(kind, type) or not issubclass(kind, layers.Layer):
            continue
        for arguments in ({"rate": 0.4}, {"stddev": 0.4}):
            try:
                layer = kind(**arguments)
            except (TypeError, ValueError):
                continue
            if getattr(layer, "seed_generator", None) is not None:
                found.add(kind)
    # Of activations or scores; in models they are tested with those above.
    assert found - set(RANDOM) == set()


def test_augmentation_stays_off():
    """Layers whose `training` is True by default, such as a random flip."""
    x = keras.Input((4, 4, 3))
    h = layers.Flatten()(layers.RandomFlip()(x))
    model = keras.Model(x, uq.DistributionHead(1)(h))
    assert len(uq.predict(model, IMAGES, verbose=0).samples) == 1


def test_plain_dropout_stays_off():
    for training in (None, False):
        model = functional(layers.Dropout, training=training)
        assert len(uq.predict(model, X, verbose=0).samples) == 1


class OwnNoise(layers.Layer):
    """Noise of another library, of which Keras knows nothing."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def call(self, inputs):
        return inputs + ops.cast(self.draw(), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def numpy_noise():
    rng = np.random.default_rng(0)
    return lambda: rng.normal()


def backend_noise():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return lambda: tf.random.normal(())
    if BACKEND == "torch":
        import torch

        return lambda: torch.randn(())
    return lambda: keras.random.normal(())  # of the global generator


@pytest.mark.parametrize("noise", [numpy_noise, backend_noise])
def test_noise_of_another_library(noise):
    model = keras.Sequential([OwnNoise(noise()), uq.DistributionHead(1)])
    model(X)
    prediction = uq.predict(model, X, samples=3, verbose=0)
    assert np.unique(prediction.samples[:, 0, 0]).size == 3
    small = uq.predict(model, X, samples=3, verbose=0, keep_samples=False)
    assert (small.epistemic_std > 0).all()


class Box:
    """An attribute in which Keras does not look for seed generators."""

    def __init__(self):
        self.generator = keras.random.SeedGenerator(3)


class Hidden(layers.Layer):
    def __init__(self):
        super().__init__()
        self.box = Box()

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.box.generator)
        return inputs + noise


def test_a_hidden_seed_generator():
    model = keras.Sequential([layers.Dense(WIDTH), Hidden(), uq.DistributionHead(1)])
    model(X)
    state = ops.convert_to_numpy(model.layers[1].box.generator.state).copy()
    assert is_random(model)
    after = ops.convert_to_numpy(model.layers[1].box.generator.state)
    np.testing.assert_array_equal(after, state)


def test_other_data_than_arrays():
    """The model is tried on the first batch, which is not lost."""
    model = functional(layers.Dropout)
    data = ((X[i : i + 4],) for i in (0, 4, 8))
    prediction = uq.predict(model, data, samples=3, steps=3, seed=0, verbose=0)
    assert prediction.samples.shape == (3, ROWS, 2)
    assert (prediction.epistemic_std > 0).any()


def test_samples_of_a_model_that_is_not_random():
    model = functional(layers.Dropout, training=None)
    for _ in range(2):
        prediction = with_one_warning(
            "runs once instead of 3 times",
            lambda: uq.predict(model, X, samples=3, verbose=0),
        )
        assert len(prediction.samples) == 1
    ensemble = uq.Ensemble.from_models([functional(layers.Dropout, None)] * 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        uq.predict(model, X, verbose=0)
        uq.predict(model, X, samples=1, verbose=0)
        uq.predict(ensemble, X, samples=3, verbose=0)
