"""Faults of data, weights and gradients: missing, zero, not finite."""

import re

import keras
import numpy as np
import pytest
from broken import NLL
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import only
from keras import layers
from keras import ops

import keras_uq_layers as uq


class Function(layers.Layer):
    """A layer of a function, with a weight to train."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.function(x, self.w)

    def get_config(self):
        return {**super().get_config(), "function": self.function}


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_not_finite(name, value):
    data = {"x": X.copy(), "y": Y.copy()}
    data[name][7] = value
    problem = only(
        "data-not-finite", name, model_of(layers.Dense(1)), data["x"], data["y"], "mse"
    )
    assert "row 7" in problem.evidence


@pytest.mark.parametrize(
    ("head", "y", "text"),
    [
        (
            uq.DistributionHead(1, uq.families.Interval("weibull")),
            [[2.0, 1.0], [1.0, np.inf]],
            "1 other interval.* first is .2, 1.",
        ),
        (uq.DistributionHead(1, "gamma"), [[-1.0], [1.0]], "numbers in .0, inf"),
        (uq.OrdinalHead(3), [[3], [1]], "labels from 0 to 2.*first is 3"),
    ],
    ids=["interval", "gamma", "ordinal"],
)
def test_targets_outside_of_the_support(head, y, text):
    model = model_of(head)
    problem = only("targets-outside-support", "y", model, X[:2], np.array(y), NLL())
    assert re.search(text, problem.evidence)
    assert "check_target" in problem.advice


def test_a_nan_among_intervals():
    y = uq.targets.survival(np.exp(Y), X[:, 1] > 0)
    y[7, 0] = np.nan
    model = model_of(uq.DistributionHead(1, uq.families.Interval("weibull")))
    problem = only("data-not-finite", "y", model, X, y, NLL())
    assert "1 NaN" in problem.evidence
    assert "in 1 of" in problem.evidence  # open ends are no fault


def test_the_first_layer_with_a_bad_output_in_a_nested_model():
    inner = keras.Sequential(
        [layers.Dense(3), Function(lambda x, w: ops.log(w * x), name="logarithm")],
        name="inner",
    )
    model = model_of(inner, layers.Dense(2), layers.Dense(1))
    only("output-not-finite", "inner/logarithm", model, X, Y, "mse")


def test_a_weight_that_is_broken():
    model = model_of(layers.Dense(2, name="broken"), layers.Dense(1))
    model.layers[0].kernel.assign(np.full((4, 2), np.nan))
    only("weight-not-finite", "broken/kernel", model, X, Y, "mse")


def test_a_loss_that_is_not_finite():
    def loss(y, p):
        return ops.log(0.0 * p)

    only("loss-not-finite", "loss", model_of(layers.Dense(1)), X, Y, loss)


def test_a_gradient_that_is_not_finite_in_the_loss():
    def loss(y, p):
        return ops.sqrt(ops.square(p - p))

    problem = only("gradient-not-finite", "", model_of(layers.Dense(1)), X, Y, loss)
    assert problem.path == "loss"


def test_a_gradient_that_is_not_finite_in_a_layer():
    root = Function(lambda x, w: ops.sqrt(ops.square(x - x)) + w * x, name="root")
    model = model_of(layers.Dense(6), root, layers.Dense(1))
    only("gradient-not-finite", "root", model, X, Y, "mse")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: ops.stop_gradient(x * w),
        lambda x, w: ops.clip(100.0 + x * w, 0.0, 1.0),
        lambda x, w: ops.round(x * w),
    ],
)
def test_no_gradient_gets_through(function):
    model = model_of(Function(function, name="stop"), layers.Dense(1))
    problems = found(model, X, Y, "mse")
    assert set(problems) <= {"no-gradient", "zero-gradient"}
    assert any("stop" in problem.path for problem in problems.values())


def test_units_that_are_all_dead():
    dead = layers.Dense(
        4, "relu", bias_initializer=keras.initializers.Constant(-99), name="dead"
    )
    only("zero-gradient", "dead", model_of(dead, layers.Dense(1)), X, Y, "mse")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_inputs_that_saturate(activation):
    model = model_of(layers.Dense(8, activation, name="first"), layers.Dense(1))
    only("saturated", "first", model, 300 + 50 * X, Y, "mse")


def test_a_model_that_is_wholly_frozen():
    model = model_of(layers.Dense(1))
    model.trainable = False
    problem = only("no-trainable-weights", model.name, model, X, Y, "mse")
    assert "None of the 2 weights" in problem.evidence
