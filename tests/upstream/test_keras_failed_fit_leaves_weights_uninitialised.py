"""Keras 3.15.1 on TensorFlow 2.21: a `fit` that fails while Keras builds the
model symbolically leaves variables that were never initialised, so that the
next `predict` fails, too, with another message.

No workaround here: shapes are checked, and errors raised, before any weight.
"""

import keras
import numpy as np
import pytest
from only import only


class Fails(keras.layers.Layer):
    def call(self, inputs):
        raise RuntimeError("on purpose")


@only("tensorflow")
def test_predict_after_a_failed_fit():
    dense, fails = keras.layers.Dense(2), Fails()
    model = keras.Sequential([dense, fails])
    model.compile("sgd", "mse")
    x = np.ones((4, 3), "float32")
    with pytest.raises(RuntimeError, match="on purpose"):
        model.fit(x, np.ones((4, 2)), verbose=0)
    with pytest.raises(Exception, match=r"is not a matrix|BiasAdd"):
        keras.Sequential([dense]).predict(x, verbose=0)
