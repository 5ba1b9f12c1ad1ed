"""The names under which the classes of this package are known in saved files.

They are a file format: a class may move to another module, never to another
registered name.
"""

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
