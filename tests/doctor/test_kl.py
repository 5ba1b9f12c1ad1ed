"""Faults of the KL: its weight, its number, a collapse to the prior."""

import keras
import numpy as np
from broken import NLL
from broken import ROWS
from broken import AddsAtEachCall
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import only
from broken import variational
from keras import layers

import keras_uq_layers as uq


def test_the_weight_of_the_kl():
    model = model_of(variational(kl_weight=1.0, name="hidden"), uq.DistributionHead(1))
    problem = only("kl-weight", "hidden", model, X, Y, NLL())
    assert "40" in problem.evidence


def test_the_weight_of_the_kl_for_a_known_size():
    model = model_of(variational(kl_weight=1 / ROWS), uq.DistributionHead(1))
    assert not found(model, X, Y, NLL())
    assert "kl-weight" in found(model, X, Y, NLL(), training_size=50 * ROWS)


class ModelWithKL(keras.Model):
    def __init__(self, weight):
        super().__init__()
        self.hidden = variational(kl_weight=1 / ROWS)
        self.head = uq.DistributionHead(1)
        self.weight = weight

    def call(self, x):
        output = self.head(self.hidden(x))
        self.add_loss(self.weight * self.hidden.kl())
        return output


def test_a_kl_that_is_added_twice():
    assert "kl-twice" in found(ModelWithKL(1 / ROWS), X, Y, NLL())


def test_a_kl_that_is_added_at_each_call():
    shared = AddsAtEachCall(name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(shared(shared(inputs))))
    only("kl-twice", "shared", model, X, Y, "mse")


def test_weights_that_collapsed_to_the_prior():
    model = model_of(variational(kl_weight=1 / ROWS, name="hidden"), layers.Dense(1))
    posterior = model.layers[0]
    for mean in (posterior.kernel, posterior.bias):
        mean.assign(0.0 * mean)
    raw = next(v for v in posterior.trainable_weights if "raw_scale" in v.name)
    raw.assign(np.full(raw.shape, np.log(np.e - 1)))
    assert "collapsed-to-prior" in found(model, X, Y, "mse")


def test_a_code_that_collapsed_to_the_prior():
    model = model_of(
        uq.DistributionHead(2, kernel_initializer="zeros"),
        uq.NormalSampling(name="draw"),
        uq.ConstantVarianceHead(4),
    )
    assert "collapsed-to-prior" in found(model, X, X, NLL())
