"""Keras 3.15.1: what `build` assigns to a weight is lost where Keras builds
the layer symbolically, as `fit` of an unbuilt model does on JAX; TensorFlow
keeps it in a Functional model only.

The workaround is an initializer that returns the value, in `layers/_head.py`.
"""

import keras
import numpy as np
from only import only


class Assigns(keras.layers.Layer):
    def build(self, input_shape):
        self.gain = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.w = self.add_weight(shape=())
        self.gain.assign(5.0)

    def call(self, inputs):
        return (self.gain + self.w) * inputs


@only("tensorflow", "jax")
def test_the_value_is_lost():
    layer = Assigns()
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
    assert float(keras.ops.convert_to_numpy(layer.gain)) == 0.0
