"""Faults of the loss: its domain, logits, scales."""

import keras
import numpy as np
import pytest
from broken import NLL
from broken import ON_JAX
from broken import ROWS
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import only
from keras import layers
from keras import ops

import keras_uq_layers as uq


def test_targets_that_are_no_probabilities():
    model = model_of(layers.Dense(4, "sigmoid"))
    only("targets-not-probabilities", "y", model, X, X, "binary_crossentropy")


def test_such_targets_in_a_loss_of_the_user():
    def loss(y, p):
        return ops.sum(keras.losses.binary_crossentropy(y, p))

    model = model_of(layers.Dense(4, "sigmoid"))
    only("targets-not-probabilities", "y", model, X, X, loss)


CATEGORICAL = uq.families.Categorical(from_logits=False)
BERNOULLI = uq.families.Bernoulli(from_logits=False)


@pytest.mark.parametrize(
    ("units", "loss"),
    [
        (1, "binary_crossentropy"),
        (3, "sparse_categorical_crossentropy"),
        (3, NLL(CATEGORICAL)),
        (1, NLL(BERNOULLI)),
    ],
    ids=["binary", "classes", "categorical", "bernoulli"],
)
def test_logits_that_are_taken_as_probabilities(units, loss):
    # All of them between 0 and 1: values alone do not tell.
    last = layers.Dense(
        units,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(0.4),
        name="last",
    )
    y = np.arange(ROWS) % max(units, 2)
    model = model_of(last)
    only("logits-as-probabilities", "last", model, X, y, loss)


@pytest.mark.parametrize(
    ("units", "last", "loss"),
    [
        (
            3,
            layers.Activation("softmax", name="last"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ),
        (
            1,
            layers.Activation("sigmoid", name="last"),
            keras.losses.BinaryCrossentropy(from_logits=True),
        ),
        (3, layers.Softmax(name="last"), NLL(uq.families.Categorical())),
        (
            1,
            layers.Activation("sigmoid", name="last"),
            NLL(uq.families.Bernoulli()),
        ),
    ],
    ids=["classes", "binary", "categorical", "bernoulli"],
)
def test_probabilities_that_are_taken_as_logits(units, last, loss):
    y = np.arange(ROWS) % max(units, 2)
    model = model_of(layers.Dense(units), last)
    only("probabilities-as-logits", "last", model, X, y, loss)


def test_a_metric_that_takes_probabilities_as_logits():
    model = model_of(layers.Dense(3, "softmax", name="last"))
    y, loss = np.arange(ROWS) % 3, "sparse_categorical_crossentropy"
    ece = uq.metrics.ExpectedCalibrationError
    model.compile("sgd", loss, metrics=[ece(CATEGORICAL), "accuracy"])
    assert not found(model, X, y)
    model.compile("sgd", loss, metrics=[ece(uq.families.Categorical())])
    only("probabilities-as-logits", "last", model, X, y)


def test_the_name_of_a_family_means_probabilities_where_keras_notes_them():
    model = model_of(layers.Dense(3, "softmax", name="last"))
    problems = found(model, X, np.arange(ROWS) % 3, NLL("categorical"))
    # JAX's tracers carry no note: there a compiled step refuses the name.
    on_jax = {"gradient-failed", "probabilities-as-logits"}
    assert set(problems) == (on_jax if ON_JAX else set())


@pytest.mark.parametrize(
    ("parameterization", "bias"), [("signal_to_noise", 1e9), ("scale", -30.0)]
)
def test_a_scale_at_its_floor(parameterization, bias):
    head = uq.DistributionHead(
        1,
        parameterization=parameterization,
        bias_initializer=keras.initializers.Constant(bias),
        name="head",
    )
    assert "scale-at-floor" in found(model_of(head), X, Y, NLL())


def test_a_likelihood_layer_at_its_floor():
    model = model_of(uq.NormalLikelihood(add_nll=True, scale_initializer="zeros"))
    assert "scale-at-floor" in found(model, X)


def test_scales_that_are_not_positive():
    only("scale-not-positive", "", model_of(layers.Dense(2)), X, Y, NLL("normal"))


def test_log_variances_for_the_sampling_layer():
    model = model_of(
        layers.Dense(4), uq.NormalSampling(name="draw"), uq.ConstantVarianceHead(4)
    )
    assert "log-variance-as-scale" in found(model, X, X, NLL())


def test_targets_in_another_unit():
    model = model_of(uq.DistributionHead(1, name="head"))
    only("scale-far-too-small", "head", model, X, 1e4 * Y, NLL())
