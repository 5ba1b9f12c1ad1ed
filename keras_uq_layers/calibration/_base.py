"""The parts that calibrators share: checks, the conformal rank, saving."""

import math
from typing import Any
from typing import Self

import numpy as np
from keras import ops

from keras_uq_layers import families
from keras_uq_layers import registration
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction import Prediction


class Calibrator:
    """Abstract: an object with a `fit` whose fitted state is in its config."""

    def get_config(self) -> Config:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return registration.from_config(cls, config)

    def _require_fit(self, state: Any) -> Any:
        if state is None:
            name = type(self).__name__
            raise ValueError(f"`{name}` must be fitted before use: call `fit` first.")
        return state

    def _of_outputs(self, state: Array | None, outputs: int) -> Array:
        """The fitted state, which has one number for each output."""
        fitted = self._require_fit(state)
        if len(fitted) != outputs:
            raise ValueError(
                f"`prediction` must have {len(fitted)} output(s), as many as "
                f"`{type(self).__name__}` was fitted to. Received: a prediction "
                f"with {outputs} output(s)"
            )
        return fitted


def check_moments(prediction: Any) -> Moments:
    """The argument, if it has a mean and a std; an array as a plain prediction."""
    if isinstance(prediction, Moments):
        return prediction
    array = np.asarray(prediction)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise ValueError(
            "`prediction` must be a `uq.Prediction`, from `uq.predict`, or an array "
            "of predictions of y, from any library. For an array of params: "
            "`uq.Prediction(params[None], family)`. "
            f"Received: an object of class {type(prediction).__name__}"
        )
    array = array[:, None] if array.ndim == 1 else array
    return Prediction(array[None].astype("float64"), families.Point())


def check_prediction(prediction: Any) -> Prediction:
    """The argument, if it knows quantiles; an array as a plain prediction."""
    prediction = check_moments(prediction)
    if isinstance(prediction, Prediction):
        return prediction
    raise ValueError(
        "`prediction` must be a `uq.Prediction` with its samples: call "
        "`uq.predict` with keep_samples=True. "
        f"Received: an object of class {type(prediction).__name__}"
    )


def has_std(prediction: Moments) -> bool:
    """Whether it is more than a plain prediction of passes that are equal."""
    if not isinstance(prediction.family, families.Point):
        return True
    # Of equal passes rounding leaves a little.
    rounding = 1e-5 * np.abs(prediction.mean)
    return bool((prediction.epistemic_std > rounding).any())


def in_shape_of(given: Any, *ends: Array) -> Any:
    """Ends `(N, D)` as they are; `(N,)` for an array `(N,)`, which y is too."""
    if isinstance(given, Moments) or np.ndim(given) != 1:
        return ends
    return tuple(end[:, 0] for end in ends)


def to_array(tensor: Tensor) -> Array:
    return np.asarray(ops.convert_to_numpy(tensor), dtype="float64")


def targets(y: Tensor, shape: tuple[int, ...], name: str = "y") -> Array:
    """`y` as a finite array of that shape; a missing last axis of 1 is added."""
    array = to_array(y)
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        array = array[..., None]
    if array.shape != tuple(shape):
        raise ValueError(
            f"`{name}` must have shape {tuple(shape)} to agree with the prediction. "
            f"Received: {name} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinite values")
    return array


def as_rows(scores: Array) -> Array:
    """Finite scores `(N, ..., D)` as `(rows, D)`, a row for each position."""
    rows = scores.reshape(-1, scores.shape[-1])
    bad = np.count_nonzero(~np.isfinite(rows).all(axis=-1))
    if bad:
        raise ValueError(
            "`prediction` must be finite, with a positive std, at all examples. "
            f"Received: {bad} of {len(rows)} example(s) without a finite score"
        )
    return rows


def conformal_rank(count: int, level: float) -> int:
    """`ceil((n + 1) level)`: which of n sorted scores is the threshold."""
    # 1e-9: 0.9 * 10 in floating point must not be rounded up to 10.
    return math.ceil((count + 1) * level - 1e-9)


def conformal_quantile(scores: Array, level: float, of: str = "") -> Any:
    """The `ceil((n + 1) level)`-th smallest score, along the first axis.

    A new score that is exchangeable with these is at most this score with a
    probability from `level` to `level + 1 / (n + 1)`. `of` says for the error
    whose scores these are, if not those of all examples.
    """
    count = len(scores)
    rank = conformal_rank(count, level)
    if rank > count:
        needed = math.ceil(level / (1.0 - level) - 1e-9)
        raise ValueError(
            f"Calibration at level {level:g} must have at least {needed} points{of}. "
            f"Received: {count} point(s)"
        )
    return np.sort(scores, axis=0)[rank - 1]
