"""The part that the normals with bounds share."""

import math
import numbers
from typing import Any

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._location_scale import LocationScale


class BoundedNormal(LocationScale):
    """Abstract: `[loc | scale]` of a normal before bounds were put on it."""

    closed = True

    def __init__(
        self, lower: float | None = 0.0, upper: float | None = math.inf
    ) -> None:
        self.lower = _bound("lower", lower)
        self.upper = _bound("upper", upper)
        if self.lower >= self.upper:
            raise arguments.error("upper", f"above `lower={lower}`", upper)

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor, float, float]:
        loc, scale = self.split(params)
        return loc, scale, self.lower, self.upper

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return 0.0, scale

    def _moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of `y`, with the bounds."""
        raise self._missing("mean")

    def mean(self, params: Tensor) -> Tensor:
        return self._moments(params)[0]

    def variance(self, params: Tensor) -> Tensor:
        return self._moments(params)[1]

    def get_config(self) -> Config:
        # JSON has no infinity.
        return {
            "lower": self.lower if math.isfinite(self.lower) else None,
            "upper": self.upper if math.isfinite(self.upper) else None,
        }


def _bound(name: str, value: Any) -> float:
    if value is None:
        return -math.inf if name == "lower" else math.inf
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or math.isnan(value)
    ):
        raise arguments.error(name, "a number, or None for no bound", value)
    return float(value)
