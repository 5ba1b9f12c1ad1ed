"""Keras 3.15.1 on JAX cannot `predict` with one model from several threads.

The trainer keeps the state of a running `predict` on the model, and one thread
takes it away from the other. Seen with keras 3.15.1 and jax 0.10.2; TensorFlow
and PyTorch can. When this fails, `test_tools.py` need not skip JAX, and the
sentence about threads in `docs/precision.md` can go.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="other backends can")
def test_predict_from_several_threads_fails():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x = np.ones((64, 2), "float32")
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(model.predict, x, verbose=0) for _ in range(12)]
    errors = [run.exception() for run in runs]
    assert any(isinstance(error, (TypeError, RuntimeError)) for error in errors)
