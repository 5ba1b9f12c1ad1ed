"""Faults of the uncertainty on data that the model has not seen."""

import numpy as np
from broken import NLL
from broken import ROWS
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import only

import keras_uq_layers as uq


def head_with_scale(scale):
    model = model_of(uq.ConstantVarianceHead(1, scale=scale, use_bias=False))
    model.layers[0].dense.set_weights([np.eye(4, 1)])
    return model


def test_over_confidence():
    validation = (X, Y)
    model = head_with_scale(0.05)
    problem = only("over-confident", "", model, X, Y, NLL(), validation_data=validation)
    assert "%" in problem.evidence
    assert not found(head_with_scale(0.3), X, Y, NLL(), validation_data=validation)


def test_a_variance_that_collapsed_on_the_training_data():
    model = head_with_scale(0.05)
    memorised = X[:, 0] + 0.04 * np.random.default_rng(2).normal(size=ROWS)
    only("variance-collapse", "", model, X, memorised, NLL(), validation_data=(X, Y))
