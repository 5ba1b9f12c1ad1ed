"""Faults of random layers, and of layers that do not load again."""

import keras
import numpy as np
import pytest
from broken import ON_JAX
from broken import AddsAtEachCall
from broken import Noise
from broken import X
from broken import Y
from broken import model_of
from broken import only
from broken import with_generator
from broken import without_a_seed
from keras import layers
from keras import ops

import keras_uq_layers as uq


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(
            without_a_seed,
            marks=pytest.mark.skipif(ON_JAX, reason="Keras itself refuses it there"),
        ),
        lambda self, x: keras.random.normal(ops.shape(x), seed=1),
        lambda self, x: np.random.normal(size=x.shape).astype("float32"),  # noqa: NPY002
    ],
    ids=["no seed", "a constant", "numpy"],
)
def test_noise_without_a_seed_generator(draw):
    model = keras.Sequential([Noise(draw), layers.Dense(1)])
    only("no-seed-generator", "", model, X, Y, "mse")


@pytest.mark.parametrize(
    ("only_training", "code"),
    [(False, "samples-at-inference"), (True, "deterministic-at-inference")],
)
def test_what_is_random_at_inference_is_noted(only_training, code):
    model = model_of(Noise(with_generator, only_training), layers.Dense(1))
    diagnosis = uq.diagnose(model, X, Y, "mse")
    assert diagnosis.ok
    assert code in diagnosis.codes


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras's dropout draws from the generator of PyTorch, unseen by Keras",
)
def test_dropout_called_in_training_is_random_at_inference():
    inputs = keras.Input(X.shape[1:])
    hidden = layers.Dropout(0.5)(inputs, training=True)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    assert "samples-at-inference" in uq.diagnose(model, X, Y, "mse").codes


class NoConfig(layers.Layer):
    def __init__(self, factor, function):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


def test_a_layer_without_a_config():
    model = model_of(NoConfig(2.0, np.sin), layers.Dense(1))
    problem = only("no-config", "", model, X, Y, "mse")
    assert "factor, function" in problem.advice


def test_a_layer_that_is_not_registered_is_noted():
    diagnosis = uq.diagnose(model_of(AddsAtEachCall(), layers.Dense(1)), X, Y, "mse")
    assert diagnosis.ok
    assert "not-registered" in diagnosis.codes
