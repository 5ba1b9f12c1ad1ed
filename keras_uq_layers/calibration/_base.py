"""What the calibrators share: reading a prediction, ranks, and saving."""

import math

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers import registration


class Calibrator:
    """Abstract: something with a `fit` whose state is in its config."""

    def get_config(self):
        raise NotImplementedError

    @classmethod
    def from_config(cls, config):
        return registration.from_config(cls, config)

    def _require_fit(self, state):
        if state is None:
            name = type(self).__name__
            raise ValueError(f"`{name}` must be fitted before use: call `fit` first.")


class ParamsPrediction:
    """A params array with the face of a `Prediction`."""

    def __init__(self, params, family):
        self._params = ops.convert_to_tensor(params)
        self._family = family

    @property
    def mean(self):
        return to_array(self._family.mean(self._params))

    @property
    def std(self):
        return np.sqrt(to_array(self._family.variance(self._params)))

    def quantile(self, q):
        """Quantiles `(N, D)`; `q` is a float."""
        return to_array(self._family.quantile(q, self._params))

    def interval(self, level):
        tail = 0.5 * (1.0 - level)
        return self.quantile(tail), self.quantile(1.0 - tail)

    def cdf(self, y):
        y = ops.cast(ops.convert_to_tensor(y), self._params.dtype)
        return to_array(self._family.cdf(y, self._params))


def read(prediction, family):
    """The prediction itself, or the params array as one."""
    if hasattr(prediction, "interval"):
        return prediction
    return ParamsPrediction(prediction, families.get(family))


def to_array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), dtype="float64")


def targets(y, shape):
    """`y` as a finite array of that shape; a missing last axis of 1 is added."""
    array = to_array(y)
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        array = array[..., None]
    if array.shape != tuple(shape):
        raise ValueError(
            f"`y` must have shape {tuple(shape)} to agree with the prediction. "
            f"Received: y of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("`y` must be finite. Received: NaN or infinite values")
    return array


def open_level(name, value):
    level = arguments.probability(name, value)
    if not 0 < level < 1:
        raise arguments.error(name, "between 0 and 1, both excluded", value)
    return level


def conformal_quantile(scores, level):
    """The `ceil((n + 1) level)`-th smallest score, along the first axis.

    A new score, exchangeable with these, is at most that with a probability
    from `level` to `level + 1 / (n + 1)`.
    """
    count = len(scores)
    # 1e-9: 0.9 * 10 in floating point must not be rounded up to 10.
    rank = math.ceil((count + 1) * level - 1e-9)
    if rank > count:
        needed = math.ceil(level / (1.0 - level) - 1e-9)
        raise ValueError(
            f"Calibration at level {level:g} must have at least {needed} points. "
            f"Received: {count} point(s)"
        )
    return np.sort(scores, axis=0)[rank - 1]
