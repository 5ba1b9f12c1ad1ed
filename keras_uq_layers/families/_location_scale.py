"""The part that location-scale families share."""

from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.families._parameterizations import PARAMETERIZATIONS
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse


class LocationScale(Family):
    """Abstract: a family with params `[loc | scale]`, `Y = loc + scale * Z`."""

    parameters: tuple[str, ...] = ("loc", "scale")
    parameterizations = tuple(PARAMETERIZATIONS)
    spread: tuple[str, ...] = ("scale",)
    target_unit = "affine"

    def constrain_parts(
        self, loc: Tensor, raw_scale: Tensor, *, scale_floor: float
    ) -> tuple[Tensor, ...]:
        return loc, positive(raw_scale, scale_floor)

    def unconstrain_parts(
        self, loc: Tensor, scale: Tensor, *, scale_floor: float
    ) -> tuple[Tensor, ...]:
        return loc, positive_inverse(scale, scale_floor)

    def parameterize_parts(
        self,
        location: Tensor,
        spread: Tensor,
        *,
        parameterization: str,
        initial_scale: float,
        scale_floor: float,
    ) -> tuple[Tensor, ...]:
        initial_loc, initial_scale, *_ = self.initial_parts(initial_scale)
        loc, ratio = PARAMETERIZATIONS[parameterization](location, spread)
        above = initial_scale - scale_floor
        return initial_loc + loc, scale_floor + above * ratio

    def mean(self, params: Tensor) -> Tensor:
        return self.split(params)[0]

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        loc, scale, *rest = self.split(params)
        return self.join(shift + factor * loc, factor * scale, *rest)
