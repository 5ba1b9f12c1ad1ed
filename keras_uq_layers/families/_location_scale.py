"""The part that location-scale families share."""

from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse


class LocationScale(Family):
    """Abstract: a family with params `[loc | scale]`, `Y = loc + scale * Z`."""

    parameters = ("loc", "scale")
    target_unit = "affine"

    def constrain_parts(
        self, loc: Tensor, raw_scale: Tensor, *, scale_floor: float
    ) -> tuple[Tensor, ...]:
        return loc, positive(raw_scale, scale_floor)

    def unconstrain_parts(
        self, loc: Tensor, scale: Tensor, *, scale_floor: float
    ) -> tuple[Tensor, ...]:
        return loc, positive_inverse(scale, scale_floor)

    def mean(self, params: Tensor) -> Tensor:
        loc, _ = self.split(params)
        return loc

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        loc, scale = self.split(params)
        return self.join(shift + factor * loc, factor * scale)
