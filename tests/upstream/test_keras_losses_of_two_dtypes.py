"""Keras 3.15.1 on TensorFlow cannot add up losses of two dtypes.

Under `set_dtype_policy("float64")` the compiled loss stays in the float type of
Keras, float32, and a loss that a layer adds is float64: `Trainer.compute_loss`
stacks them, and TensorFlow refuses. Seen with keras 3.15.1 and TensorFlow
2.21.0; JAX and PyTorch promote. When this fails, `as_loss` in
`numerics/dtypes.py` can go.
"""

import keras
import numpy as np
import pytest


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends promote"
)
def test_a_float64_regularizer_stops_the_training():
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.layers.Dense(1, kernel_regularizer="l2")])
    model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(TypeError, match="tensor of dtype <dtype: 'float64'>"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
