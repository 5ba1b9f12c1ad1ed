"""The names under which the classes of this package are known in saved files.

They are a file format: a class may move to another module, never to another
registered name.
"""

import importlib
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import TypeVar

import keras

from keras_uq_layers._typing import Config

PACKAGE = "keras_uq_layers"


_Class = TypeVar("_Class", bound=type)


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: the class loads after `import keras_uq_layers`.

    Args:
        name: The registered name: the public name below the package, such as
            `"BumpLayer"` or `"losses.NegativeLogLikelihood"`, since a loss
            and a metric may have the same class name.
    """
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)


def on_first_use(module: str, names: Iterable[str]) -> None:
    """Lets Keras load classes whose module is not loaded yet.

    A stand-in takes the registered name of each class. Where a saved file names
    the class, the stand-in loads the module, and the class takes its name.

    Args:
        module: Full name of the module that registers the classes.
        names: Their registered names, without the package.
    """
    known = keras.saving.get_custom_objects()
    for name in names:
        full = f"{PACKAGE}>{name}"
        known.setdefault(full, _StandIn(module, full))


class _StandIn:
    """The class of a registered name, before its module is loaded."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def load(self) -> Any:
        importlib.import_module(self.module)
        # While Keras loads a file, `get_registered_object` still has the stand-in.
        return keras.saving.get_custom_objects()[self.name]

    def from_config(self, config: Config) -> Any:
        return self.load().from_config(config)


def custom_objects() -> dict[str, type]:
    """All classes of this package that a saved file may name.

    After `import keras_uq_layers` a file loads without it; this is for code
    that passes `custom_objects` anyway.

    Returns:
        Dict from registered name to class.

    Example:

    >>> sorted(uq.custom_objects())[0]
    'keras_uq_layers>BetaCalibration'
    """
    return {
        name: cls.load() if isinstance(cls, _StandIn) else cls
        # A copy: a class that is loaded takes its place in the registry.
        for name, cls in [*keras.saving.get_custom_objects().items()]
        if name.startswith(f"{PACKAGE}>")
    }


def from_config(cls: type, config: Config) -> Any:
    """The object that a config describes.

    Args:
        cls: A class whose config holds the arguments of its constructor.
        config: Dict.

    Returns:
        An object of `cls`.

    Raises:
        ValueError: The config does not fit; the message names class and key.
    """
    try:
        # Python's own error names no key for a class without a constructor,
        # and a base class instead of this one.
        inspect.signature(cls).bind(**config)
        return cls(**config)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The config of `{cls.__name__}` must hold its arguments. Received: {error}"
        ) from error


def wrapper_from_config(cls: type, config: Config, custom_objects: Any = None) -> Any:
    """`from_config` of a `keras.layers.Wrapper`, whose config holds a layer."""
    config = dict(config)
    if "layer" in config:
        config["layer"] = keras.saving.deserialize_keras_object(
            config["layer"], custom_objects
        )
    return from_config(cls, config)


def require_keys(cls: type, config: Config, keys: list[str]) -> None:
    """Raises where the config of a class lacks one of the keys."""
    missing = [key for key in keys if key not in config]
    if missing:
        raise ValueError(
            f"The config of `{cls.__name__}` must have the keys {missing}. "
            f"Received: the keys {sorted(config)}"
        )
