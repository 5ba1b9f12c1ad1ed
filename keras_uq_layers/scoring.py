"""Which positions a loss or a metric scores, made safe to evaluate."""

from typing import Any
from typing import NamedTuple

from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.numerics import position_mask
from keras_uq_layers.numerics import position_weights
from keras_uq_layers.numerics import where_valid


class Scored(NamedTuple):
    """The result of `scored`.

    Attributes:
        y: Targets `(..., D)`, or as `log_prob` takes them.
        params: Params `(..., P * D)`.
        weights: Sample weights of the shape of the positions, or None.
        mask: Booleans of the shape of the positions, or None: all count.
        valid: Where a position counts: not masked out, and its weight is not
            0. None: everywhere.
        outputs: Where each output has a weight of its own, their number `D`. Each
            is then a position with one output: `y` is `(..., D, 1)`. Else None.
    """

    y: Tensor
    params: Tensor
    weights: Tensor | None
    mask: Tensor | None
    valid: Tensor | None
    outputs: int | None = None

    def of_positions(
        self, values: Tensor, summed: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One value for each position of the params, its weight and its mask.

        Of outputs with a weight of their own, the value is the weighted mean, the
        weight the mean weight: their product is that of the outputs.

        Args:
            values: One value for each position here.
            summed: Whether the value of a position is the sum over its outputs,
                and not the mean.
        """
        if self.outputs is None:
            return values, self.weights, self.mask
        total = ops.sum(self.weights * values, axis=-1)
        weight = ops.sum(self.weights, axis=-1)
        mean = ops.divide_no_nan(total, weight)
        mask = None if self.mask is None else self.mask[..., 0]
        return self.outputs * mean if summed else mean, weight / self.outputs, mask


def scored(
    family: Family,
    y_true: Tensor,
    y_pred: Tensor,
    sample_weight: Tensor | None,
    dtype: str,
    likelihood: bool = False,
) -> Scored:
    """Aligned targets and params, and how much each position counts.

    Positions that are masked out or have weight 0 hold safe numbers without a
    meaning. Neither a NaN nor an infinite gradient passes from there.

    Args:
        family: The family that reads `y_pred`.
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`, with the mask that Keras attached.
        sample_weight: Weights `(B,)`, `(B, 1)` or `(...)`; where `D` is above 1,
            also one for each output, `(..., D)`; or None.
        dtype: Dtype to compute in.
        likelihood: Whether `y` is read by `log_prob`, which may take other
            targets than one number for each output.

    Returns:
        A `Scored`.

    Raises:
        ValueError: Shapes that do not agree.
    """
    mask = _keras.mask_of(y_pred)
    params = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    align = family.align_target if likelihood else family.align
    y = ops.cast(align(ops.convert_to_tensor(y_true), params), dtype)
    outputs = _weighted_outputs(family, params, sample_weight)
    if outputs is not None:
        y, params = _as_positions(family, y, params, outputs)
    positions = tuple(params.shape[:-1])
    weights = position_weights(sample_weight, positions, dtype)
    mask = position_mask(mask, positions)
    valid = mask
    if weights is not None:
        valid = weights != 0 if mask is None else ops.logical_and(mask, weights != 0)
    y, params = where_valid(valid, y), where_valid(valid, params)
    shape = ops.shape(params)[:-1]

    def spread(tensor: Any) -> Any:
        # A copy: Keras multiplies weights by a mask in place, which PyTorch
        # refuses for a broadcast view.
        return None if tensor is None else ops.copy(ops.broadcast_to(tensor, shape))

    return Scored(y, params, spread(weights), spread(mask), spread(valid), outputs)


def _weighted_outputs(
    family: Family, params: Tensor, sample_weight: Tensor | None
) -> int | None:
    """The number of outputs, where each has a weight of its own."""
    units = family.units(params.shape[-1])
    shape = () if sample_weight is None else tuple(sample_weight.shape)
    if units == 1 or len(shape) != len(params.shape) or shape[-1] != units:
        return None
    if not family.independent:
        raise ValueError(
            "`sample_weight` must have one value per position for the family "
            f"{family.name!r}, whose outputs are not independent. Received: "
            f"sample_weight of shape {shape}"
        )
    return units


def _as_positions(
    family: Family, y: Tensor, params: Tensor, outputs: int
) -> tuple[Tensor, Tensor]:
    """Each output as a position: from `(..., P * D)` to `(..., D, P)`."""
    # The blocks of a target, too: an interval has two.
    blocks = [
        y[..., start : start + outputs] for start in range(0, y.shape[-1], outputs)
    ]
    return ops.stack(blocks, axis=-1), ops.stack(family.split(params), axis=-1)
