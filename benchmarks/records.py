"""What the resumable benchmarks share: results on disk, one JSON object a line."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import keras
import numpy as np

import keras_uq_layers as uq


class OtherResults(Exception):
    """What is on disk was made from other data or with other settings."""


def positive(text):
    """The positive integer of a command line."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def read(path):
    """The rows of a file of results; its first line has the versions."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()[1:]]


def write(path, versions, rows):
    """Writes the file in one move, so that an interrupted run leaves a whole one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(f"{json.dumps(row)}\n" for row in [versions, *rows]))
    os.replace(draft, path)


def versions():
    backend = keras.backend.backend()
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: importlib.metadata.version(backend),
        "numpy": np.__version__,
        "keras_uq_layers": uq.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def header(versions):
    """The versions in one line of text."""
    made = ", ".join(f"{name} {value}" for name, value in versions.items())
    return made.removeprefix("date ")


def mean_and_error(values, digits):
    """`mean ± standard error`, for one value the value alone."""
    values = np.asarray(values, dtype=float)
    text = f"{values.mean():.{digits}f}"
    if len(values) > 1:
        error = values.std(ddof=1) / np.sqrt(len(values))
        text += f" ± {error:.{digits}f}"
    return text
