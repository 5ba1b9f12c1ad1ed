"""Which positions a loss or metric scores, made safe to evaluate."""

from typing import NamedTuple

from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers.numerics import position_mask
from keras_uq_layers.numerics import position_weights
from keras_uq_layers.numerics import where_valid


class Scored(NamedTuple):
    """What `scored` returns; the tensors that are not needed are None."""

    y: object
    params: object
    weights: object
    mask: object
    valid: object


def scored(family, y_true, y_pred, sample_weight, dtype):
    """Aligned targets and params, and how much each position counts.

    Positions that are masked out or have weight 0 hold safe numbers without a
    meaning: neither a NaN nor an infinite gradient passes from there.

    Args:
        family: A `Family`.
        y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
        y_pred: Params `(..., P * D)`, with the mask that Keras attached.
        sample_weight: Weights `(B,)`, `(B, 1)` or `(...)`, or None.
        dtype: Dtype to compute in.

    Returns:
        `Scored`: `y` and `params`; `weights` and `mask`, which broadcast
        against the positions axis by axis, or None; `valid`, where both are
        not 0, or None.

    Raises:
        ValueError: Shapes that do not agree.
    """
    mask = _keras.mask_of(y_pred)
    params = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    y = ops.cast(family.align(ops.convert_to_tensor(y_true), params), dtype)
    shape = tuple(params.shape[:-1])
    weights = position_weights(sample_weight, shape, dtype)
    valid = mask = position_mask(mask, shape)
    if weights is not None:
        counts = weights != 0
        valid = counts if mask is None else ops.logical_and(mask, counts)
    y, params = where_valid(valid, y), where_valid(valid, params)
    return Scored(y, params, weights, mask, valid)
