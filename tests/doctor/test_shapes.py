"""Faults of shapes, and of heads against losses, metrics and later layers."""

import keras
import numpy as np
import pytest
from broken import NLL
from broken import ROWS
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import only
from keras import layers
from keras import ops

import keras_uq_layers as uq


def test_a_loss_that_broadcasts():
    def loss(y, p):
        return ops.mean(ops.square(y - p[:, 0]))

    only("shapes-broadcast", "", model_of(layers.Dense(2)), X, Y[:, None], loss)


def test_the_same_loss_without_the_trap():
    def loss(y, p):
        return ops.mean(ops.square(y - p[:, :1]))

    assert not found(model_of(layers.Dense(2)), X, Y[:, None], loss)


@pytest.mark.parametrize(("units", "targets"), [(3, 1), (1, 3)])
def test_outputs_that_broadcast(units, targets):
    model = model_of(layers.Dense(units))
    y = np.repeat(Y[:, None], targets, axis=1)
    only("wrong-outputs", "", model, X, y, "mse")


def test_outputs_that_do_not_fit():
    model = model_of(uq.DistributionHead(2))
    only("wrong-outputs", "y", model, X, np.stack([Y] * 3, 1), NLL())


def test_a_model_that_cannot_be_called():
    model = model_of(layers.Dense(2, name="first"))
    only("call-failed", "", model, X[:, :3], Y, "mse")


STUDENT_3, STUDENT_30 = uq.families.StudentT(3), uq.families.StudentT(30)


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        ("laplace", NLL("normal")),
        (STUDENT_3, NLL(STUDENT_30)),
        (
            uq.families.Quantiles([0.05, 0.5, 0.95]),
            uq.losses.Pinball([0.25, 0.5, 0.75]),
        ),
    ],
    ids=["names", "degrees of freedom", "levels"],
)
def test_a_head_and_a_loss_of_different_families(family, loss):
    model = model_of(uq.DistributionHead(1, family, name="head"))
    only("family-mismatch", "head", model, X, Y, loss)


def test_a_metric_of_another_family():
    model = model_of(uq.DistributionHead(1, STUDENT_3, name="head"))
    model.compile("sgd", NLL(), metrics=[uq.metrics.CRPS("student_t")])
    assert not found(model, X, Y)
    model.compile("sgd", NLL(), metrics=[uq.metrics.CRPS(STUDENT_30)])
    only("family-mismatch", "head", model, X, Y)


def test_a_loss_and_a_metric_of_different_families_without_a_head():
    model = model_of(layers.Dense(2, "softplus"))
    model.compile("sgd", NLL(STUDENT_3), metrics=[uq.metrics.CRPS(STUDENT_30)])
    only("family-mismatch", "", model, X, Y)


def test_a_loss_without_a_family_and_without_a_head():
    model = model_of(layers.Dense(2, name="last"))
    only("no-family", "last", model, X, Y, NLL())


def test_a_squared_error_on_params():
    model = model_of(uq.DistributionHead(1, name="head"))
    only("loss-on-params", "head", model, X, Y, "mse")


@pytest.mark.parametrize(
    "metric", ["mae", "mean_squared_error", keras.metrics.RootMeanSquaredError()]
)
def test_a_metric_on_params(metric):
    model = model_of(uq.DistributionHead(1, name="head"))
    model.compile("adam", NLL(), metrics=[metric])
    only("metric-on-params", "head", model, X, Y)


@pytest.mark.parametrize("metric", ["accuracy", keras.metrics.BinaryAccuracy()])
def test_the_accuracy_of_logits(metric):
    model = model_of(uq.DistributionHead(1, "bernoulli", name="head"))
    model.compile("adam", NLL(), metrics=[metric])
    problem = only("accuracy-of-logits", "head", model, X, Y > 0)
    assert "`uq.metrics.Accuracy()`" in problem.advice
    model.compile("adam", NLL(), metrics=[uq.metrics.Accuracy()])
    assert not found(model, X, Y > 0)


def test_the_accuracy_of_logits_in_plain_keras():
    model = model_of(layers.Dense(1, name="last"))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    only("accuracy-of-logits", "last", model, X, Y[:, None] > 0)


def in_two_outputs(structure):
    """Outputs `r`, a head, and `c`, classes: their order is not alphabetical."""
    inputs = keras.Input((4,))
    made = {
        "r": uq.DistributionHead(1, "laplace", name="r")(inputs),
        "c": layers.Dense(3, "softmax", name="c")(inputs),
    }
    loss = {"r": NLL("laplace"), "c": "sparse_categorical_crossentropy"}
    y = {"r": Y, "c": np.arange(ROWS) % 3}
    if structure is not dict:
        made, y = structure(made.values()), structure(y.values())
    return keras.Model(inputs, made), loss, y


@pytest.mark.parametrize(
    ("structure", "named"),
    [(dict, True), (list, True), (tuple, True), (list, False), (tuple, False)],
)
def test_several_outputs_in_an_order_that_is_not_alphabetical(structure, named):
    model, loss, y = in_two_outputs(structure)
    if not named:
        loss = list(loss.values())
    model.compile("sgd", loss, metrics={"r": [uq.metrics.CRPS()], "c": ["accuracy"]})
    assert not found(model, X, y)


@pytest.mark.parametrize("structure", [dict, list, tuple])
def test_a_fault_in_one_of_several_outputs(structure):
    model, loss, y = in_two_outputs(structure)
    model.compile("sgd", {**loss, "r": "mse"})
    only("loss-on-params", "r", model, X, y)


def test_a_metric_of_the_other_output():
    inputs = keras.Input((4,))
    head = uq.DistributionHead(1, name="head")(inputs)
    point = layers.Dense(1, name="point")(inputs)
    model = keras.Model(inputs, {"head": head, "point": point})
    model.compile("sgd", {"head": NLL(), "point": "mse"}, metrics={"point": "mae"})
    assert not found(model, X, {"head": Y, "point": Y})


def test_a_layer_after_a_head():
    last = layers.Dense(2, name="last")
    model = model_of(uq.DistributionHead(3), last)
    only("layer-after-head", "last", model, X, X[:, :2], "mse")
