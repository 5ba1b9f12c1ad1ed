"""Families of distributions: how a tensor of parameters is made and read."""

import keras

from keras_uq_layers.families.base import Family
from keras_uq_layers.families.bernoulli import Bernoulli
from keras_uq_layers.families.categorical import Categorical
from keras_uq_layers.families.laplace import Laplace
from keras_uq_layers.families.normal import Normal

_BY_NAME = {cls.name: cls for cls in (Normal, Laplace, Bernoulli, Categorical)}


def get(identifier):
    """The family of that name, or the family itself.

    Args:
        identifier: A name such as `"normal"`, a `Family`, or the serialized
            form of one.

    Returns:
        A `Family`.

    Raises:
        ValueError: No such family; the message lists the names.

    Example:

    >>> uq.families.get("laplace")
    Laplace()
    """
    if isinstance(identifier, Family):
        return identifier
    if isinstance(identifier, dict):
        family = keras.saving.deserialize_keras_object(identifier)
        if isinstance(family, Family):
            return family
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    names = ", ".join(repr(name) for name in sorted(_BY_NAME))
    raise ValueError(
        f"`family` must be one of {names} or a `families.Family` object. "
        f"Received: family={identifier!r}"
    )


def serialize(family):
    """The form of a family in a config, understood by `get`.

    Args:
        family: A `Family`.

    Returns:
        Dict.
    """
    return keras.saving.serialize_keras_object(family)


__all__ = [
    "Bernoulli",
    "Categorical",
    "Family",
    "Laplace",
    "Normal",
    "get",
    "serialize",
]
