"""The random numbers of a layer: their seeds, on every device and in files.

Keras saves no seed state, so that a model that is loaded again would repeat
its first draws. With `save_seed_states`, it continues the stream.
"""

import sys

import keras
import numpy as np
from keras import ops

_PREFIX = "seed_state"
_EXPORT = keras.Model.export.__code__
# The format of `Model.export` that keeps variables, hence the seed states.
_STATEFUL_FORMAT = "tf_saved_model"
_GOLDEN_RATIO = 0x9E3779B9 - 2**32  # as an int32: apart from any seed in use


class SeedGenerator(keras.random.SeedGenerator):
    """The seed generator of a layer.

    Noise of weights is drawn from it directly, noise of examples from
    `per_example()`. Under `tf.distribute.MirroredStrategy` all replicas hold
    the same state: they share the noise of the weights, as the examples of one
    batch do on one device, and a step is that of one device. The noise of the
    examples must differ between them. JAX needs neither: there a distributed
    step is one program over the whole batch.
    """

    def next(self, ordered=True):
        _refuse_export_without_state()
        return super().next(ordered)

    def per_example(self):
        """This generator, with seeds that differ between replicas."""
        return _PerExample(self)


class _PerExample(keras.random.SeedGenerator):
    """A view of a generator, without a state of its own."""

    def __init__(self, generator):
        self.generator = generator

    def __getattr__(self, name):
        # Keras on PyTorch asks for the initial seed.
        if name == "generator":
            raise AttributeError(name)
        return getattr(self.generator, name)

    def next(self, ordered=True):
        seed = self.generator.next(ordered)
        replica = _replica()
        if replica is None:
            return seed
        key = ops.cast(replica * _GOLDEN_RATIO, seed.dtype)
        return seed + ops.stack([key, ops.zeros_like(key)])


def _replica():
    """The number of this replica of a `tf.distribute` strategy, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return context.replica_id_in_sync_group


def _refuse_export_without_state():
    """Raises an error in an export to a format that would freeze the draw.

    In ONNX the seed state is a constant, and the exporter folds the draw of
    the weights with it: a file that loads, and is never random. Keras tells
    nobody that it exports, so the frames of its own call are looked at.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _EXPORT:
            break
        frame = frame.f_back
    else:
        return
    exported = frame.f_locals["format"]
    if exported != _STATEFUL_FORMAT:
        raise ValueError(
            f"`format` must be {_STATEFUL_FORMAT!r} for a model that draws random "
            "numbers: other formats keep no seed state, and would repeat one draw "
            "or not load. Export `uq.to_deterministic(model)`, which is the model "
            f"at its mean. Received: format={exported!r}"
        )


def save_seed_states(generators, store):
    """Adds the states to what `save_own_variables` stores."""
    for i, generator in enumerate(generators):
        store[f"{_PREFIX}_{i}"] = ops.convert_to_numpy(generator.state)


def load_seed_states(generators, store):
    """Restores the states; returns the rest, for `load_own_variables`.

    A file without the states is fine: the generators stay where they are.
    """
    stored = list(store.keys())  # an HDF5 entry is no dict
    for i, generator in enumerate(generators):
        key = f"{_PREFIX}_{i}"
        if key in stored:
            # The dtype of the state differs between backends.
            state = np.asarray(store[key]).astype(generator.state.dtype)
            generator.state.assign(state)
    return {k: store[k] for k in stored if not k.startswith(_PREFIX)}
