"""Keras 3.15.1 on TensorFlow: `ops.cast` of a Python number to float64 goes
through float32.

The workaround is `ops.convert_to_tensor(number, dtype)`, in `numerics.widen`.
"""

import keras
from keras import ops
from only import only


@only("tensorflow")
def test_a_number_loses_its_digits():
    assert keras.backend.standardize_dtype(ops.cast(0.1, "float64").dtype) == "float64"
    assert float(ops.cast(0.1, "float64")) != 0.1
    assert float(ops.convert_to_tensor(0.1, "float64")) == 0.1
