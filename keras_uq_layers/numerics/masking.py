"""Masks and sample weights: which batch positions count, and how much.

A *position* is an index into all axes but the last: one observation.
"""

import math

from keras import ops
from keras.backend import standardize_dtype

from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor


def where_valid(valid: Tensor | None, tensor: Tensor, fill: float = 1.0) -> Tensor:
    """`tensor` with the positions that do not count replaced by `fill`.

    To be applied to the arguments of a function *before* it is evaluated, so
    that neither a NaN nor an infinite gradient from there can pass.

    Args:
        valid: Boolean tensor, of the leading axes of `tensor`, or None.
        tensor: Tensor with at most one axis more than `valid`.
        fill: The number put in place.

    Returns:
        Tensor of the shape of `tensor`.

    Example:

    >>> y = ops.convert_to_tensor([[1.0], [float("nan")]])
    >>> where_valid(ops.convert_to_tensor([True, False]), y, 0.0).shape[0]
    2
    """
    if valid is None:
        return tensor
    for _ in range(len(tensor.shape) - len(valid.shape)):
        valid = ops.expand_dims(valid, -1)
    return ops.where(valid, tensor, ops.full_like(tensor, fill))


def within_support(
    outside: Tensor, *tensors: Tensor, fill: float = 1.0
) -> list[Tensor]:
    """Replaces target and params by harmless numbers where the target is impossible.

    The value there is chosen afterwards; with the params as they are, the
    gradient of the branch that is not chosen may be 0 times inf, which is NaN.

    Args:
        outside: Boolean tensor.
        *tensors: Tensors that broadcast against it.
        fill: The number put in place.

    Returns:
        List of tensors of the broadcast shapes.

    Example:

    >>> y, scale = ops.convert_to_tensor([-1.0, 2.0]), ops.convert_to_tensor(1e-30)
    >>> [ops.convert_to_numpy(t).tolist()[0] for t in within_support(y < 0, y, scale)]
    [1.0, 1.0]
    """
    return [ops.where(outside, ops.full_like(t, fill), t) for t in tensors]


def position_mask(mask: Tensor | None, shape: Shape) -> Tensor | None:
    """Checks that a mask fits the positions and returns it as booleans.

    Args:
        mask: Tensor of shape `shape` (non-zero: the position counts), also
            with leading axes only or with a last axis of 1, or None.
        shape: Tuple, the shape of the positions.

    Returns:
        Boolean tensor that broadcasts against `shape` axis by axis, or None.

    Raises:
        ValueError: The mask has another shape.

    Example:

    >>> tuple(position_mask(ops.ones((4,)), (4, 7)).shape)
    (4, 1)
    """
    if mask is None:
        return None
    return ops.cast(_fit(mask, shape, "mask"), "bool")


def position_weights(
    sample_weight: Tensor | None, shape: Shape, dtype: str = "float32"
) -> Tensor | None:
    """Checks that weights fit the positions, and aligns them axis by axis.

    With as many rows as time steps, weights of shape `(B,)` would broadcast
    along time in silence; here they always belong to the first axis.

    Args:
        sample_weight: Tensor or array of shape `(B,)`, `(B, 1)` or `shape`,
            or None.
        shape: Tuple, the shape of the positions, `(B, ...)`.
        dtype: Float dtype of the result.

    Returns:
        Tensor that broadcasts against `shape` axis by axis, or None.

    Raises:
        ValueError: The weights have another shape.

    Example:

    >>> tuple(position_weights(ops.ones((4,)), (4, 7)).shape)
    (4, 1)
    """
    if sample_weight is None:
        return None
    weights = ops.cast(ops.convert_to_tensor(sample_weight), dtype)
    given = tuple(weights.shape)
    rank = len(shape)
    if len(given) == 2 and given[1] == 1 and rank != 2:
        weights = ops.squeeze(weights, -1)
    elif len(given) not in (1, rank):
        raise _misfit("sample_weight", given, shape)
    return _fit(weights, shape, "sample_weight", given)


def _fit(tensor: Tensor, shape: Shape, name: str, given: Shape | None = None) -> Tensor:
    given = tuple(tensor.shape) if given is None else given
    own = len(tensor.shape)
    while len(tensor.shape) < len(shape):
        tensor = ops.expand_dims(tensor, -1)
    if len(tensor.shape) != len(shape):
        raise _misfit(name, given, shape)
    for axis, (size, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        added = axis >= own
        last = axis == len(shape) - 1 and axis > 0
        known = size is not None and wanted is not None
        if known and size != wanted and not (size == 1 and (added or last)):
            raise _misfit(name, given, shape)
    return tensor


def _misfit(name: str, given: Shape, shape: Shape) -> ValueError:
    return ValueError(
        f"`{name}` must have one value per example, shape (batch,) or "
        f"(batch, 1), or one per position, shape {tuple(shape)}. "
        f"Received: {name} of shape {given}"
    )


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over all positions that count; 0 where there is none.

    Args:
        values: Float tensor, one value per position.
        mask: Boolean tensor that broadcasts against `values` axis by axis,
            or None. What `values` holds where the mask is False is ignored.

    Returns:
        Scalar tensor of the dtype of `values`.

    Example:

    >>> values = ops.convert_to_tensor([1.0, 3.0, float("inf")])
    >>> float(masked_mean(values, ops.convert_to_tensor([True, True, False])))
    2.0
    """
    dtype = standardize_dtype(values.dtype)
    if mask is None:
        size = math.prod(values.shape) if None not in values.shape else None
        count = ops.size(values) if size is None else size
        return ops.divide_no_nan(ops.sum(values), ops.cast(count, dtype))
    mask = ops.broadcast_to(mask, ops.shape(values))
    total = ops.sum(ops.where(mask, values, ops.zeros_like(values)))
    return ops.divide_no_nan(total, ops.sum(ops.cast(mask, dtype)))
