"""Keras 3.15.1 on PyTorch: a `numpy.float64` scalar becomes float32.

The workaround is `numpy.asarray`, in `numerics.widen`.
"""

import keras
import numpy as np
from keras import ops
from only import only


@only("torch")
def test_float32():
    scalar = np.float64(0.1)
    dtype = ops.convert_to_tensor(scalar).dtype
    assert keras.backend.standardize_dtype(dtype) == "float32"
    dtype = ops.convert_to_tensor(np.asarray(scalar)).dtype
    assert keras.backend.standardize_dtype(dtype) == "float64"
