"""Keras 3.15.1: the state of a layer's `SeedGenerator` is not in the file, so
that a model that is loaded again repeats its first draws.

The workaround is `layers/_seeding.py`.
"""

import keras
import numpy as np


def test_the_stream_starts_again(tmp_path):
    model = keras.Sequential([keras.layers.Dropout(0.5, seed=1)])
    x = np.ones((1, 64), "float32")
    first = keras.ops.convert_to_numpy(model(x, training=True))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    repeated = keras.ops.convert_to_numpy(again(x, training=True))
    np.testing.assert_array_equal(repeated, first)
