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
    """

    y: Tensor
    params: Tensor
    weights: Tensor | None
    mask: Tensor | None
    valid: Tensor | None


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
        sample_weight: Weights `(B,)`, `(B, 1)` or `(...)`, or None.
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

    return Scored(y, params, spread(weights), spread(mask), spread(valid))
