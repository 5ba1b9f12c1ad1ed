"""Keras 3.15.1 on TensorFlow 2.21: `Conv1D(data_format="channels_first")` under
XLA adds the bias along time where the output is as long as there are filters.

The tests of `Conv1DVariational` compare with the plain layer at other lengths.
"""

import keras
import numpy as np
from only import only


@only("tensorflow")
def test_bias_along_time():
    import tensorflow as tf

    layer = keras.layers.Conv1D(
        3, 1, data_format="channels_first", kernel_initializer="zeros"
    )
    layer.build((None, 2, 3))
    layer.bias.assign([0.0, 1.0, 2.0])
    output = tf.function(layer, jit_compile=True)(tf.ones((1, 2, 3)))[0]
    right = np.repeat([[0.0], [1.0], [2.0]], 3, axis=1)
    np.testing.assert_array_equal(output, right.T)
