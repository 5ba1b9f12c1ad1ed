"""Keras 3.15.1 on a MirroredStrategy cannot train on an odd batch.

31 rows on two replicas: the replicas' gradients or outputs of 16 and 15 rows
are added by `AddN`. Seen with keras 3.15.1 and tensorflow 2.21.0. When this
fails, take the sentence about batch sizes out of `docs/distributed.md`.
"""

import os
import subprocess
import sys

import keras
import pytest

SCRIPT = """
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
import keras

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
for rows in (32, 31):
    model.fit(np.ones((rows, 3)), np.ones((rows, 1)), batch_size=rows, verbose=0)
    print("trained on", rows, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_an_odd_batch():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.stdout.split("\n")[0] == "trained on 32", done.stderr[-2000:]
    assert done.returncode != 0
    assert "AddN must have the same size and shape" in done.stderr
