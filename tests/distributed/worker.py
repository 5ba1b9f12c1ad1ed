"""One of several processes that train one model; the recipe of the docs.

    worker.py <process> <processes> <port> <folder> [<epoch in which to die>]

Run by `test_distributed.py`. The weights at the end are in `<folder>`.
"""

import functools
import os
import signal
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

process, processes, port = (int(word) for word in sys.argv[1:4])
folder = sys.argv[4]
death = int(sys.argv[5]) if len(sys.argv) > 5 else None

jax.config.update("jax_cpu_collectives_implementation", "gloo")
if processes > 1:
    # A process that ends waits for the heartbeat of the other: 100 s by default.
    jax.distributed.initialize = functools.partial(
        jax.distributed.initialize, heartbeat_timeout_seconds=20
    )
    # Before anything else makes JAX look for devices.
    keras.distribution.initialize(f"127.0.0.1:{port}", processes, process)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )

import keras_uq_layers as uq  # noqa: E402

BATCH = 16
rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def shard(array):
    """The rows of this process: its part of every batch."""
    batches = array.reshape(-1, processes, BATCH // processes, array.shape[-1])
    return batches[:, process].reshape(-1, array.shape[-1])


class Backup(keras.callbacks.BackupAndRestore):
    def on_epoch_end(self, epoch, logs=None):
        # JAX reports a process that was lost when a result is fetched: it
        # must not be while the file is half written.
        self.model.get_weights()
        super().on_epoch_end(epoch, logs)


class Death(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, flush=True)
        if epoch == death and process == processes - 1:
            os.kill(os.getpid(), signal.SIGKILL)


keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((4,)),
        uq.DenseVariational(8, kl_weight=0.01, estimator="flipout", seed=1),
        uq.MCDropout(0.3, seed=2),
        uq.DistributionHead(1, initial_scale=3.0),
    ]
)
model.compile(keras.optimizers.SGD(0.01), loss=uq.losses.NegativeLogLikelihood())
model.fit(
    shard(X),
    shard(Y),
    batch_size=BATCH // processes,
    epochs=4,
    shuffle=False,
    verbose=0,
    callbacks=[Backup(f"{folder}/backup_{process}"), Death()],
)
np.savez(f"{folder}/{process}_of_{processes}.npz", *model.get_weights())
