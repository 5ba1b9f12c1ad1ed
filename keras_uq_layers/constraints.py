"""Constraints of weights."""

import keras
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.registration import register

__all__ = ["MinValue"]


@register("constraints.MinValue")
class MinValue(keras.constraints.Constraint):
    """Keeps every entry of a weight at or above a minimum.

    ```
    constrained = maximum(weight, min_value)
    ```

    Unlike `keras.constraints.NonNeg` it can keep a weight away from zero. A
    scale at zero has no gradient and stays there. Keras applies constraints
    after each optimizer step, not to initial values.

    Args:
        min_value: The minimum, a finite float.

    Raises:
        ValueError: `min_value` is negative or not finite.

    Example:

    >>> constraint = uq.constraints.MinValue(0.5)
    >>> [float(v) for v in constraint(ops.convert_to_tensor([-1.0, 2.0]))]
    [0.5, 2.0]
    """

    def __init__(self, min_value: float = 0.0):
        self.min_value = arguments.non_negative_float("min_value", min_value)

    def __call__(self, w: Tensor) -> Tensor:
        return ops.maximum(w, ops.convert_to_tensor(self.min_value, w.dtype))

    def get_config(self) -> Config:
        return {"min_value": self.min_value}


_namespace.define(__name__)
