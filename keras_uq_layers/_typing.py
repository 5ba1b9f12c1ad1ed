"""Names for the types that annotations in this package use."""

from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

Tensor: TypeAlias = Any
"""A tensor of the backend, a NumPy array, or a `keras.KerasTensor`.

Keras has no common base class for them, so that a type checker cannot tell
them apart. Docstrings give the shapes.
"""

Array: TypeAlias = np.ndarray
"""A NumPy array, on the host."""

Shape: TypeAlias = tuple[int | None, ...]
"""A shape as Keras writes it: None is an axis of unknown length."""

Seed: TypeAlias = int | keras.random.SeedGenerator | None
"""What `keras.random` takes as a seed."""

Identifier: TypeAlias = Any
"""A name, an object or its serialized form, as the `get` functions take it."""

Floats: TypeAlias = float | Sequence[float]

Config: TypeAlias = dict[str, Any]
"""What `get_config` returns: values that JSON can hold."""
