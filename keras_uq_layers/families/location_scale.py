"""The part that location-scale families share."""

from keras_uq_layers.families.base import Family
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse


class LocationScale(Family):
    """Abstract: a family with params `[loc | scale]`, `Y = loc + scale * Z`."""

    parameters = ("loc", "scale")
    target_unit = "affine"

    def constrain_parts(self, loc, raw_scale, *, scale_floor):
        return loc, positive(raw_scale, scale_floor)

    def unconstrain_parts(self, loc, scale, *, scale_floor):
        return loc, positive_inverse(scale, scale_floor)

    def mean(self, params):
        loc, _ = self.split(params)
        return loc

    def affine(self, params, shift, factor):
        loc, scale = self.split(params)
        return self.join(shift + factor * loc, factor * scale)
