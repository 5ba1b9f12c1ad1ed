"""The seed generators of layers: when they look for an export."""

import keras
import numpy as np
import pytest

import keras_uq_layers as uq
from keras_uq_layers import _keras

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
RANDOM = [
    lambda: uq.MCDropout(0.5),
    lambda: uq.DenseVariational(2, kl_weight=0.1),
]


@pytest.fixture
def looks(monkeypatch):
    """A list that grows with each look at the call stack."""
    found = []
    monkeypatch.setattr(_keras, "export_format", lambda: found.append(1))
    return found


@pytest.mark.parametrize("make", RANDOM)
def test_an_eager_draw_does_not_look_at_the_call_stack(make, looks):
    layer = make()
    layer.build(X.shape)
    layer(X)
    layer(X, training=True)
    assert not looks


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="it traces nothing")
@pytest.mark.parametrize("make", RANDOM)
def test_a_compiled_draw_looks_once_per_trace(make, looks):
    model = keras.Sequential([make()])
    model.build(X.shape)
    model.predict(X, verbose=0)
    count = len(looks)
    assert count > 0
    model.predict(X, verbose=0)
    assert len(looks) == count
