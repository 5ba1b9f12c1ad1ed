import numpy as np
import pytest
from keras import ops

from keras_uq_layers.numerics.matmul import matmul


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 1, 5, 3), (0, 3)])
def test_it_is_the_product_of_keras(shape, dtype):
    rng = np.random.default_rng(0)
    inputs = ops.cast(rng.normal(size=shape), dtype)
    kernel = ops.cast(rng.normal(size=(3, 4)), dtype)
    found, expected = matmul(inputs, kernel), ops.matmul(inputs, kernel)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(
        ops.cast(found, "float32"), ops.cast(expected, "float32")
    )
