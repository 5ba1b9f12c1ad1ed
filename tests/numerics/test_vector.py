import numpy as np
import pytest
from keras import ops

from keras_uq_layers.numerics.vector import unpack


@pytest.mark.parametrize(
    "shapes", [[(3, 2), (2,)], [(4,)], [(1, 2, 3), (), (5,)], [(2, 0), (3,)]]
)
def test_the_tensors_hold_the_vector_in_order(shapes):
    size = sum(int(np.prod(shape)) for shape in shapes)
    vector = np.arange(size, dtype="float32")
    tensors = unpack(ops.convert_to_tensor(vector), shapes)
    assert [tuple(tensor.shape) for tensor in tensors] == shapes
    flat = [ops.convert_to_numpy(tensor).reshape(-1) for tensor in tensors]
    np.testing.assert_array_equal(np.concatenate(flat), vector)
