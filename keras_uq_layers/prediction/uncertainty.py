"""One number for each example: how unsure a prediction is, and how wrong it was."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction.classes import ClassMoments
from keras_uq_layers.prediction.moments import Moments

# Of the names, only the first is not an attribute of a prediction.
SCORES = (
    "error_probability",
    "entropy",
    "mutual_information",
    "std",
    "epistemic_std",
)


def uncertainty(prediction: Any, score: str | Callable[[Any], Any]) -> Array:
    """How unsure the prediction of each example is, as numbers `(N,)`.

    Args:
        prediction: A `Moments`, or an array of probabilities `(N, K)`.
        score: One of `SCORES`, or a function of `prediction`.

    Returns:
        Array `(N,)`; NaN where the prediction is NaN.
    """
    if callable(score):
        return _of_examples("score", score(prediction))
    if not isinstance(prediction, Moments):
        prediction = _of_array(probabilities(prediction))
    if score == "error_probability":
        known = np.isfinite(prediction.mean).all(axis=-1)
        found = np.full(len(known), np.nan)
        found[known] = 1.0 - probabilities(prediction[known]).max(axis=1)
        return found
    if not hasattr(prediction, score):
        raise ValueError(
            f"`score` must be one that the prediction has. Received: score={score!r} "
            f"and a {type(prediction).__name__} of the family {prediction.family!r}"
        )
    return _of_examples("score", getattr(prediction, score))


def loss_of(prediction: Any, y: Tensor, loss: str | Callable[[Any, Any], Any]) -> Array:
    """How wrong the prediction of each example is, as numbers or booleans `(N,)`.

    Args:
        prediction: A `Moments`, or an array of probabilities `(N, K)`.
        y: Labels `(N,)`, or what `loss` takes.
        loss: `"error"`: whether the most likely class is another one than `y`;
            or a function of `prediction` and `y`.
    """
    if callable(loss):
        return _of_examples("loss", loss(prediction, y))
    p = probabilities(prediction)
    return p.argmax(axis=1) != labels(y, *p.shape)


def _of_examples(name: str, found: Any) -> Array:
    """The values of a function, checked to be one for each example."""
    values = np.asarray(found)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"`{name}` must be one number for each example, of shape (N,). Received: "
            f"numbers of shape {values.shape}"
        )
    return values if values.dtype == bool else to_numpy(values)


def probabilities(prediction: Any) -> Array:
    """Probabilities of the classes, `(N, K)`; of no and yes for a Bernoulli.

    Args:
        prediction: A `Moments` of classes, or an array `(N, K)`.

    Raises:
        ValueError: It holds no probabilities of classes.
    """
    if not isinstance(prediction, Moments):
        prediction = _of_array(prediction)
    family, p = prediction.family, prediction.mean
    if isinstance(family, families.Bernoulli) and p.ndim == 2 and p.shape[1] == 1:
        return np.concatenate([1.0 - p, p], axis=1)
    if not isinstance(family, families.Categorical) or p.ndim != 2:
        raise ValueError(
            "`prediction` must be of the family 'categorical', with probabilities "
            "of shape (N, K), or 'bernoulli' with one output. Received: a mean of "
            f"shape {p.shape} of the family {family.name!r}"
        )
    if not (np.allclose(p.sum(axis=1), 1.0, atol=1e-3) and (p >= 0).all()):
        raise ValueError(
            "`prediction` must hold probabilities that add up to 1. "
            "Received: a prediction with other rows, or with NaN"
        )
    return p


def _of_array(array: Any) -> ClassMoments:
    """An array of probabilities `(N, K)` as a prediction of a single pass."""
    p = np.asarray(array)
    if p.dtype.kind not in "fiu" or p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(
            "`prediction` must be a `uq.Prediction` of classes, from `uq.predict`, or "
            "an array of probabilities (N, K), of two or more classes. Received: "
            f"an object of class {type(array).__name__}, of shape {p.shape}"
        )
    p = p.astype("float64")
    family = families.Categorical(from_logits=False)
    moments = ClassMoments(p, p * (1.0 - p), 0.0 * p, p[:, 0], family, passes=1)
    moments.expected_entropy = moments.entropy
    return moments


def labels(y: Tensor, rows: int, classes: int) -> Array:
    """Labels as whole numbers `(rows,)`, checked."""
    array = to_numpy(y)
    if array.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"`y` must have one label per example, shape ({rows},). "
            f"Received: y of shape {array.shape}"
        )
    array = array.reshape(rows)
    wrong = ~((array >= 0) & (array < classes) & (array == np.floor(array)))
    if wrong.any():
        raise ValueError(
            f"`y` must hold labels from 0 to {classes - 1}. Received: "
            f"{np.count_nonzero(wrong)} other value(s), the first is {array[wrong][0]}"
        )
    return array.astype("int64")
