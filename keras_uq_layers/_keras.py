"""All that is private in Keras, each behind a named function.

No other file of this package imports `keras.src` or reads an underscored
attribute of a Keras object. A new release of Keras is one file to check.
Each function says which version it was seen in.
"""

from typing import Any

import keras

from keras_uq_layers._typing import Tensor


def mask_of(tensor: Tensor) -> Tensor | None:
    """The mask that Keras attached to a tensor, or None. Seen in Keras 3.15.

    The mask is an attribute of the tensor or, where the backend's tensors take
    no attributes, in a table that only this accessor of Keras reads.
    """
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


def attach_mask(tensor: Tensor, mask: Tensor | None) -> None:
    """Attaches a mask to a tensor, as Keras's layers do. Seen in Keras 3.15."""
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask)


def attribute_of(tensor: Tensor, name: str) -> Any:
    """The attribute that `attach_attribute` set, or None. Seen in Keras 3.15."""
    from keras.src.backend.common.tensor_attributes import get_tensor_attr

    return get_tensor_attr(tensor, name)


def attach_attribute(tensor: Tensor, name: str, value: Any) -> None:
    """Sets an attribute of a tensor on any backend. Seen in Keras 3.15.

    JAX's tensors take no attributes. Keras keeps a table for them, from which
    an entry goes when its tensor does.
    """
    from keras.src.backend.common.tensor_attributes import set_tensor_attr

    set_tensor_attr(tensor, name, value)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """A model and all layers in it, at any depth. Seen in Keras 3.15."""
    return list(model._flatten_layers())


def producer_of(tensor: keras.KerasTensor) -> Any:
    """The layer, model or operation that emits a tensor. Seen in Keras 3.15."""
    return tensor._keras_history.operation


def set_direction(metric: keras.metrics.Metric, direction: str) -> None:
    """Tells callbacks whether a metric is better "up" or "down".

    `EarlyStopping` and its kin read this attribute where they are not given a
    `mode`; without it they refuse the metric. Seen in Keras 3.15.
    """
    metric._direction = direction


def reduce_values(
    values: Tensor,
    weights: Tensor | None,
    mask: Tensor | None,
    reduction: str | None,
    dtype: str,
) -> Tensor:
    """The reduction of `keras.losses.Loss`. Seen in Keras 3.15.

    The mean is over the positions that the mask lets count; weights do not
    change its divisor. A strategy of `tf.distribute` is taken into account.
    """
    from keras.src.losses.loss import reduce_weighted_values

    return reduce_weighted_values(values, weights, mask, reduction, dtype)


def in_symbolic_scope() -> bool:
    """Whether Keras computes shapes only, not values. Seen in Keras 3.15."""
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return in_symbolic_scope()
