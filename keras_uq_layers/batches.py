"""Batches of inputs and targets, from all that `fit` of Keras takes."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array

_ROWS = 256


def batches(
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    verbose: str | int = "auto",
) -> Iterator[tuple[Any, Any, Any]]:
    """Inputs, targets and weights of each batch, with a progress bar.

    Args:
        x: Arrays; or an iterable of batches, such as a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or a `DataLoader` of PyTorch. A batch is
            `x`, `(x, y)` or `(x, y, sample_weight)`.
        y: Array of targets, or None. None where `x` is an iterable of batches.
        batch_size: Rows of a batch, for arrays alone. None: 256.
        verbose: 0 for no progress bar, `"auto"`, 1 or 2 for one.

    Yields:
        Tuple `(x, y, sample_weight)`, each of which may be None.

    Raises:
        ValueError: There are no rows, `y` stands beside an iterable of batches,
            or it has another number of rows than `x`.
    """
    if batch_size is not None:
        batch_size = arguments.positive_int("batch_size", batch_size)
    count: int | None
    if _are_arrays(x):
        parts, count = _slices(x, y, batch_size or _ROWS)
    elif y is not None:
        raise ValueError(
            "`y` must be None where `x` is an iterable of batches (x, y). "
            f"Received: x of type {type(x).__name__}, y of type {type(y).__name__}"
        )
    else:
        parts, count = _elements(x)
    bar = keras.utils.Progbar(count, verbose=1 if verbose == "auto" else verbose)
    done = 0
    for part in parts:
        yield part
        done += 1
        bar.update(done, finalize=done == count)
    if done == 0:
        raise ValueError("`x` must hold at least one example. Received: no rows")


def _are_arrays(x: Any) -> bool:
    if isinstance(x, (list, tuple, dict)):
        return all(hasattr(leaf, "shape") for leaf in tree.flatten(x))
    return hasattr(x, "shape")


def _slices(x: Any, y: Any, size: int) -> tuple[Iterator[Any], int]:
    leaves = tree.flatten(x) + ([] if y is None else tree.flatten(y))
    counts = sorted({leaf.shape[0] for leaf in leaves})
    if len(counts) > 1:
        raise ValueError(
            f"`x` and `y` must have as many rows. Received: {counts[0]} and "
            f"{counts[-1]} rows"
        )
    starts = range(0, counts[0], size)

    def rows(start: int) -> Any:
        def part(data: Any) -> Any:
            return tree.map_structure(lambda leaf: leaf[start : start + size], data)

        return part(x), None if y is None else part(y), None

    return map(rows, starts), len(starts)


def _elements(x: Any) -> tuple[Iterator[Any], int | None]:
    try:
        count = len(x)
    except TypeError:  # a generator, or a dataset of unknown length
        count = None
    # A `PyDataset` has no end of its own.
    is_indexed = isinstance(x, keras.utils.PyDataset)
    elements = (x[i] for i in range(count or 0)) if is_indexed else iter(x)
    return map(keras.utils.unpack_x_y_sample_weight, elements), count


class RowSample:
    """At most `size` rows out of many batches, each with equal chances.

    Also where the data are sorted. The sample of the same batches is the same.

    Args:
        size: Number of rows.

    Attributes:
        arrays: The rows of each array that `add` takes.
    """

    def __init__(self, size: int):
        self.size = size
        self.arrays: tuple[Array, ...] = ()
        self._rng = np.random.default_rng(0)
        self._places = np.zeros(0)

    def add(self, *arrays: Array) -> None:
        """Takes the rows of a batch: arrays with the same first axis."""
        # The rows with the smallest random numbers.
        places = self._rng.random(len(arrays[0]))
        if self.arrays:
            pairs = zip(self.arrays, arrays, strict=True)
            arrays = tuple(np.concatenate(pair) for pair in pairs)
            places = np.concatenate([self._places, places])
        chosen = np.argsort(places)[: self.size]
        self.arrays = tuple(array[chosen] for array in arrays)
        self._places = places[chosen]
