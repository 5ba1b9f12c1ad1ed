"""The part that the normals with bounds share."""

import math
import numbers

from keras_uq_layers import arguments
from keras_uq_layers.families.location_scale import LocationScale


class BoundedNormal(LocationScale):
    """Abstract: `[loc | scale]` of a normal before bounds were put on it."""

    closed = True

    def __init__(self, lower=0.0, upper=math.inf):
        self.lower = _bound("lower", lower)
        self.upper = _bound("upper", upper)
        if self.lower >= self.upper:
            raise arguments.error("upper", f"above `lower={lower}`", upper)

    def initial_parts(self, scale):
        return 0.0, scale

    def mean(self, params):
        return self._moments(params)[0]

    def variance(self, params):
        return self._moments(params)[1]

    def get_config(self):
        # JSON has no infinity.
        return {
            "lower": self.lower if math.isfinite(self.lower) else None,
            "upper": self.upper if math.isfinite(self.upper) else None,
        }


def _bound(name, value):
    if value is None:
        return -math.inf if name == "lower" else math.inf
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or math.isnan(value)
    ):
        raise arguments.error(name, "a number, or None for no bound", value)
    return float(value)
