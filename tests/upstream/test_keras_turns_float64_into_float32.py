"""Keras 3.15.1 on JAX (with x64) and PyTorch: functions that promote dtypes
return float32 for float64 arguments.

The workaround is `larger`, `smaller`, `between` and `floor` in
`numerics/dtypes.py`.
"""

import keras
import numpy as np
import pytest
from keras import ops
from only import only


@only("torch")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.maximum(x, 0.5),
        lambda x: ops.minimum(x, 0.5),
        ops.floor,
        lambda x: ops.logaddexp(x, x),
        ops.var,
    ],
    ids=["maximum", "minimum", "floor", "logaddexp", "var"],
)
def test_float32(function):
    x = ops.convert_to_tensor(np.array([0.1, 0.7]))
    assert keras.backend.standardize_dtype(x.dtype) == "float64"
    assert keras.backend.standardize_dtype(function(x).dtype) == "float32"


@only("torch")
def test_a_number_beside_float64_is_rounded():
    x = ops.convert_to_tensor(np.array([0.5]))
    assert float(ops.where(x > 1, x, 0.1)[0]) != 0.1
    assert float(ops.clip(x, 0.6, 0.7)[0]) != 0.6


@only("torch")
def test_the_mean_of_a_loss():
    keras.config.set_floatx("float64")
    y = np.ones((2, 1))
    loss = keras.losses.MeanSquaredError()
    assert keras.backend.standardize_dtype(loss.call(y, y).dtype) == "float64"
    assert keras.backend.standardize_dtype(loss(y, y).dtype) == "float32"
