"""The part that families with positive params alone share."""

from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse


class PositiveParams(Family):
    """Abstract: a family all of whose params are positive."""

    # The smallest number that a head emits, one a parameter; None: `POSITIVE_FLOOR`.
    floors: tuple[float, ...] | None = None

    def constrain_parts(self, *raw: Tensor, scale_floor: float) -> tuple[Tensor, ...]:
        return tuple(map(positive, raw, self._floors()))

    def unconstrain_parts(
        self, *parts: Tensor, scale_floor: float
    ) -> tuple[Tensor, ...]:
        return tuple(map(positive_inverse, parts, self._floors()))

    def _floors(self) -> tuple[float, ...]:
        return self.floors or (POSITIVE_FLOOR,) * len(self.parameters)
