"""The names under which the classes of this package are known in saved files.

They are a file format: a class may move to another module, never to another
registered name.
"""

import inspect

import keras

PACKAGE = "keras_uq_layers"


def register(name):
    """Class decorator: the class loads after `import keras_uq_layers`.

    Args:
        name: The registered name: the public name below the package, such as
            `"BumpLayer"` or `"losses.NegativeLogLikelihood"`, since a loss
            and a metric may have the same class name.
    """
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)


def custom_objects():
    """All classes of this package that a saved file may name.

    After `import keras_uq_layers` a file loads without it; this is for code
    that passes `custom_objects` anyway.

    Returns:
        Dict from registered name to class.

    Example:

    >>> sorted(uq.custom_objects())[0]
    'keras_uq_layers>BumpLayer'
    """
    return {
        name: cls
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith(f"{PACKAGE}>")
    }


def from_config(cls, config):
    """The object of a config, for classes that Keras has no base class for.

    Args:
        cls: A class whose config holds the arguments of its constructor.
        config: Dict.

    Returns:
        An object of `cls`.

    Raises:
        ValueError: A key is missing or unknown. Python's own message would
            name a private base class, or no key at all.
    """
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    require_keys(cls, config, [p.name for p in named if p.default is p.empty])
    unknown = sorted(set(config) - {p.name for p in named})
    if unknown and len(named) == len(parameters):
        raise ValueError(
            f"The config of `{cls.__name__}` must have no key beyond "
            f"{[p.name for p in named]}. Received: {unknown}"
        )
    return cls(**config)


def require_keys(cls, config, keys):
    """Raises where the config of a class lacks one of the keys."""
    missing = [key for key in keys if key not in config]
    if missing:
        raise ValueError(
            f"The config of `{cls.__name__}` must have the keys {missing}. "
            f"Received: the keys {sorted(config)}"
        )
