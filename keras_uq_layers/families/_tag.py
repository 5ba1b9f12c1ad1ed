"""The family of a params tensor, attached to the tensor by the head."""

from keras_uq_layers import _keras
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family

_ATTRIBUTE = "_uq_family"


def attach_family(tensor: Tensor, family: Family | None) -> Tensor:
    """Notes on a params tensor which family reads it.

    Losses, metrics and `uq.predict` find the family there, as Keras finds a
    mask. An operation makes a new tensor, which has no note.

    Args:
        tensor: A params tensor, also a symbolic one.
        family: The family, or None: nothing is noted.

    Returns:
        The same tensor.
    """
    if family is None:
        return tensor
    noted = tensor
    while noted is not None:
        _keras.attach_attribute(noted, _ATTRIBUTE, family)
        # JAX: inside of `value_and_grad` the loss gets a tracer, and the
        # metrics get the primal value within it.
        noted = getattr(noted, "primal", None)
    return tensor


def attached_family(tensor: Tensor) -> Family | None:
    """The family that `attach_family` noted on this very tensor, or None."""
    return _keras.attribute_of(tensor, _ATTRIBUTE)
