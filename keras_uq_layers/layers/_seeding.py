"""The random numbers of a layer: their seeds, on every device and in files.

Keras saves no seed state, so that a model that is loaded again would repeat
its first draws. A layer of class `SavedSeeds` continues the stream.
"""

from collections.abc import MutableMapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers._typing import Tensor

_PREFIX = "seed_state"
# The format of `Model.export` that keeps variables, hence the seed states.
_STATEFUL_FORMAT = "tf_saved_model"
_GOLDEN_RATIO = 0x9E3779B9 - 2**32  # as an int32: apart from any seed in use


class SeedGenerator(keras.random.SeedGenerator):
    """The seed generator of a layer.

    Noise of weights is drawn from the generator itself, noise of examples from
    `per_example()`. Under `tf.distribute.MirroredStrategy` all replicas hold
    the same state. So they share the noise of the weights, as the examples of
    one batch do on one device. But the noise of the examples must differ
    between replicas. On JAX a distributed step is one program over the whole
    batch, and there is nothing to do.
    """

    def next(self, ordered: bool = True) -> Tensor:
        if ordered and keras.backend.backend() == "torch":
            seed = self._next_on_torch()
        else:
            seed = super().next(ordered)
        refuse_export_without_state(seed)
        return seed

    def _next_on_torch(self) -> Tensor:
        """What the method of Keras does, in half the time."""
        seed = self.state.value.clone()
        self.state.assign(seed + seed.new_tensor((0, 1)))
        return seed

    def per_example(self) -> "_PerExample":
        """This generator, with seeds that differ between replicas."""
        return _PerExample(self)


class _PerExample(keras.random.SeedGenerator):
    """A view of a generator, without a state of its own."""

    def __init__(self, generator: SeedGenerator):
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        # Keras on PyTorch asks for the initial seed.
        if name == "generator":
            raise AttributeError(name)
        return getattr(self.generator, name)

    def next(self, ordered: bool = True) -> Tensor:
        seed = self.generator.next(ordered)
        replica = _replica()
        if replica is None:
            return seed
        key = ops.cast(replica * _GOLDEN_RATIO, seed.dtype)
        return seed + ops.stack([key, ops.zeros_like(key)])


def _replica() -> Tensor | None:
    """The number of this replica of a `tf.distribute` strategy, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return context.replica_id_in_sync_group


def refuse_export_without_state(tensor: Tensor) -> None:
    """Raises an error in an export to a format that would freeze the draw.

    It is called with a tensor of each draw, and asks once per trace: an eager
    draw is no part of an export.

    In ONNX the seed state is a constant, and the exporter folds the draw of
    the weights with it. The file would load and never be random.
    """
    exported = _keras.export_format() if _keras.is_traced(tensor) else None
    if exported not in (None, _STATEFUL_FORMAT):
        raise ValueError(
            f"`format` must be {_STATEFUL_FORMAT!r} for a model that draws random "
            "numbers: other formats keep no seed state, and would repeat one draw "
            "or not load. Export `uq.to_deterministic(model)`, which is the model "
            f"at its mean. Received: format={exported!r}"
        )


class SavedSeeds(keras.layers.Layer):
    """Abstract: a layer whose seed states are saved with its weights.

    A file without the states loads, too. The generators then stay where they
    are.
    """

    def _saved_generators(self) -> list[keras.random.SeedGenerator]:
        return _keras.seed_generators_of(self)

    def save_own_variables(self, store: MutableMapping) -> None:
        super().save_own_variables(store)
        for i, generator in enumerate(self._saved_generators()):
            store[f"{_PREFIX}_{i}"] = ops.convert_to_numpy(generator.state)

    def load_own_variables(self, store: MutableMapping) -> None:
        stored = list(store.keys())  # an HDF5 entry is no dict
        for i, generator in enumerate(self._saved_generators()):
            key = f"{_PREFIX}_{i}"
            if key in stored:
                # The dtype of the state differs between backends.
                state = np.asarray(store[key]).astype(generator.state.dtype)
                generator.state.assign(state)
        weights = {k: store[k] for k in stored if not k.startswith(_PREFIX)}
        super().load_own_variables(weights)
