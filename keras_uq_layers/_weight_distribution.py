"""The base of posteriors and priors: a config, and look-up by name."""

from typing import Self
from typing import TypeVar

import keras

from keras_uq_layers import registration
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier


class WeightDistribution:
    """Abstract: a small serializable object, copied for each layer."""

    name = ""

    def get_config(self) -> Config:
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return registration.from_config(cls, config)

    def copy(self) -> Self:
        """An object with the same options and no weights of a layer."""
        return type(self).from_config(self.get_config())

    def __repr__(self) -> str:
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"


_Base = TypeVar("_Base", bound=WeightDistribution)


def look_up(
    argument: str,
    identifier: Identifier,
    base: type[_Base],
    classes: tuple[type[_Base], ...],
) -> _Base:
    """A fresh object of `base` from a name, an object or its serialized form."""
    room = base.__module__.rpartition(".")[-1]
    by_name = {cls.name: cls for cls in classes}
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, base):
        return identifier.copy()
    if isinstance(identifier, str) and identifier in by_name:
        return by_name[identifier]()
    names = ", ".join(repr(name) for name in by_name)
    raise ValueError(
        f"`{argument}` must be one of {names} or a `{room}.{base.__name__}` "
        f"object. Received: {argument}={identifier!r}"
    )
