"""Keras 3.15.1 cannot `fit` under a MultiWorkerMirroredStrategy of two workers.

It hands a `PerReplica` value to an operation that wants a tensor. Seen with
keras 3.15.1 and tensorflow 2.21.0. When this fails, rewrite "What does not
work" in `docs/distributed.md`.
"""

import json
import os
import socket
import subprocess
import sys

import keras
import pytest

SCRIPT = """
import numpy as np
import tensorflow as tf
import keras

strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_two_workers():
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        )
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode != 0
        assert "unsupported type" in errors, errors[-2000:]
        assert "PerReplica" in errors
