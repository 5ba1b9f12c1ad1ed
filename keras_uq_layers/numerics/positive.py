"""The map from the real line to the positive numbers, and the scale floor."""

import math

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import at_least_float32
from keras_uq_layers.numerics.dtypes import finfo

SCALE_FLOOR = 1e-3
"""Default smallest scale a head can emit, in the units that it works in."""

POSITIVE_FLOOR = 1e-6
"""Smallest rate, mean count or concentration that a head can emit."""


def positive(raw: Tensor, floor: float = 0.0) -> Tensor:
    """A number above `floor` with a gradient that stays alive at the floor.

    ```
    positive(raw, floor) = floor + log(1 + exp(raw))
    ```

    Args:
        raw: Tensor, any real values.
        floor: The lower bound, a non-negative float.

    Returns:
        Tensor of the shape of `raw`.

    Example:

    >>> round(float(positive(ops.convert_to_tensor(0.0), floor=0.1)), 4)
    0.7931
    """
    raw = ops.convert_to_tensor(raw)
    # The slope underflows: it must not meet an infinite one, 0 * inf is NaN.
    flat = raw < math.log(float(finfo(at_least_float32(raw.dtype)).tiny))
    zero = ops.zeros_like(raw)
    return floor + ops.where(flat, zero, ops.softplus(ops.where(flat, zero, raw)))


def positive_inverse(value: Tensor, floor: float = 0.0) -> Tensor:
    """The `raw` for which `positive(raw, floor)` is `value`.

    ```
    raw = v + log(1 - exp(-v)),  v = value - floor
    ```

    Args:
        value: Tensor, above `floor`; not above: NaN (-inf at the floor).
        floor: The lower bound, a non-negative float.

    Returns:
        Tensor of the shape of `value`.

    Example:

    >>> raw = positive_inverse(ops.convert_to_tensor(2.0), floor=0.5)
    >>> round(float(positive(raw, floor=0.5)), 4)
    2.0
    """
    above = value - floor
    return above + ops.log(-ops.expm1(-above))
