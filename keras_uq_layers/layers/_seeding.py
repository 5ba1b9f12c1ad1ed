"""The states of a layer's seed generators, in its saved weights.

Keras saves no seed state, so that a model that is loaded again would repeat
its first draws. With this, it continues the stream.
"""

import numpy as np
from keras import ops

_PREFIX = "seed_state"


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
