"""All that is private in Keras, each behind a named function.

No other file of this package imports `keras.src` or reads an underscored
attribute of a Keras object. A new release of Keras is one file to check.
Each function says which version it was seen in.
"""

from typing import Any

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
