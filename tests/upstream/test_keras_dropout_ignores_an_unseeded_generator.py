"""Keras 3.15.1 on PyTorch: `random.dropout` passes over a `SeedGenerator` that
was given no seed, and draws from PyTorch's global one; its state stays.

The workaround is a `noise_shape`, in `MCDropout`.
"""

import keras
from only import only


@only("torch")
def test_the_state_stays():
    x, generator = keras.ops.ones((2, 8)), keras.random.SeedGenerator()

    def state():
        return keras.ops.convert_to_numpy(generator.state).tolist()

    before = state()
    keras.random.dropout(x, 0.5, seed=generator)
    assert state() == before
    keras.random.dropout(x, 0.5, noise_shape=(2, 8), seed=generator)
    assert state() != before
