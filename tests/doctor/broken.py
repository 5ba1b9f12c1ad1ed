"""A small model and data, and the problems that are found in a model."""

import keras
import numpy as np
from keras import layers
from keras import ops

import keras_uq_layers as uq

ROWS = 40
NLL = uq.losses.NegativeLogLikelihood
ON_JAX = keras.backend.backend() == "jax"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype("float32")
Y = (X[:, 0] + 0.3 * RNG.normal(size=ROWS)).astype("float32")


def model_of(*parts):
    return keras.Sequential([keras.Input(X.shape[1:]), *parts])


def found(*args, **kwargs):
    diagnosis = uq.diagnose(*args, **kwargs)
    print(diagnosis)
    return {finding.code: finding for finding in diagnosis.problems}


def only(code, path="", *args, **kwargs):
    problems = found(*args, **kwargs)
    assert set(problems) == {code}
    assert path in problems[code].path
    return problems[code]


def variational(**options):
    return uq.DenseVariational(6, activation="tanh", **options)


class Noise(layers.Layer):
    def __init__(self, draw, only_training=False, **kwargs):
        super().__init__(**kwargs)
        self.draw, self.only_training = draw, only_training
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if self.only_training and not training:
            return x
        return x + self.draw(self, x)

    def get_config(self):
        config = {"draw": self.draw, "only_training": self.only_training}
        return {**super().get_config(), **config}


def without_a_seed(self, x):
    return keras.random.normal(ops.shape(x))


def with_generator(self, x):
    return keras.random.normal(ops.shape(x), seed=self.seed_generator)


class AddsAtEachCall(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        self.add_loss(0.01 * ops.sum(ops.square(self.w)))
        return x * self.w
