"""A model without its randomness."""

import keras

_PROTOCOL = "deterministic"


def to_deterministic(model):
    """The same model with every random layer at its mean.

    A variational layer becomes the plain Keras layer at its posterior mean,
    dropout that stays on at inference becomes the identity: a model of the
    same architecture and names, faster, and free of the classes of this
    package wherever it was random. Nested models, shared layers and layers
    inside wrappers such as `TimeDistributed` and `RNN` are converted, too.

    The prediction at the mean weights is not the mean of the predictions, and
    it carries no epistemic uncertainty.

    A layer takes part by a method `deterministic()`, which returns the layer
    that stands for it, not built, and the list of weights to set once it is,
    or None; your own layers may have one.

    Args:
        model: A `keras.Sequential` or Functional model. It is left as it is.

    Returns:
        A new model with weights of its own, not compiled.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: `model` is a subclassed model, or holds a random layer
            that says nothing of its deterministic counterpart.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((3,)), uq.DenseVariational(2, kl_weight=0.01, name="hidden")]
    ... )
    >>> uq.to_deterministic(model).layers
    [<Dense name=hidden, built=True>]
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
    _check_model(model)
    layers = list(model._flatten_layers())
    for layer in layers:
        _check_layer(layer)
    # Classes that were never registered are known all the same: by example.
    classes = {type(a).__name__: type(a) for a in layers if not _is_keras(a)}
    with keras.saving.custom_object_scope(classes):
        config = _convert(keras.saving.serialize_keras_object(model))
        # The config comes from a live model, not from a file.
        clone = keras.saving.deserialize_keras_object(config, safe_mode=False)
    if not model.built:
        return clone
    if not clone.built:
        clone.build(model.input_shape)
    for layer in clone._flatten_layers():
        if _is_random(layer):
            raise ValueError(
                "`model` must be what its config says, but made from it a random "
                f"layer is left: {layer}"
            )
    _copy_weights(model, clone)
    return clone


def _check_model(model):
    for part in model._flatten_layers():
        if isinstance(part, keras.Model) and not _is_keras(part):
            raise ValueError(
                "`model` must be a Sequential or Functional model, and so must "
                "the models inside: what a subclassed model computes is not in "
                f"its config. Received: {part} of class {type(part).__name__}"
            )


def _check_layer(layer):
    if hasattr(layer, _PROTOCOL) or _is_keras(layer):
        return  # Keras's own random layers are deterministic at inference.
    if layer._seed_generators:
        raise ValueError(
            "`model` must say what its random layers are without randomness: "
            f"{type(layer).__name__} draws random numbers. Give it a method "
            "`deterministic()` that returns a layer and its weights, or None. "
            f"Received: {layer}"
        )


def _is_keras(layer):
    return type(layer).__module__.partition(".")[0] == "keras"


def _counterpart(layer):
    return getattr(layer, _PROTOCOL)()[0]


def _is_random(layer):
    """Whether the layer differs from its own deterministic counterpart."""
    if not hasattr(layer, _PROTOCOL):
        return False
    other = _counterpart(layer)
    return type(other) is not type(layer) or other.get_config() != layer.get_config()


def _convert(config):
    """The config with every random layer in it replaced, at any depth."""
    if isinstance(config, (list, tuple)):
        return type(config)(_convert(part) for part in config)
    if not isinstance(config, dict):
        return config
    if "class_name" in config and isinstance(config.get("config"), dict):
        config = _replace(config)
    return {key: _convert(value) for key, value in config.items()}


def _replace(config):
    unbuilt = {key: value for key, value in config.items() if key != "build_config"}
    if config["class_name"] in ("Functional", "Sequential", "__tensor__"):
        return unbuilt
    # Only classes with the protocol are made: the config of another layer is
    # walked as it is.
    cls = keras.saving.get_registered_object(
        config.get("registered_name") or config["class_name"]
    ) or keras.saving.get_custom_objects().get(config["class_name"])
    if cls is None or not hasattr(cls, _PROTOCOL):
        return config
    layer = keras.saving.deserialize_keras_object(unbuilt, safe_mode=False)
    if not _is_random(layer):
        return config
    replaced = keras.saving.serialize_keras_object(_counterpart(layer))
    # What belongs to the place in the model, and not to the layer.
    kept = {k: v for k, v in config.items() if k in ("name", "inbound_nodes")}
    if "build_config" in config:
        replaced["build_config"] = {
            k: v for k, v in config["build_config"].items() if k != "random"
        }
    return {**replaced, **kept}


def _copy_weights(source, target):
    """Copies weights between two trees of layers that differ where random."""
    if hasattr(source, _PROTOCOL) and _is_random(source):
        weights = source.deterministic()[1]
        if weights:
            target.set_weights(weights)
        return
    own = [*source._trainable_variables, *source._non_trainable_variables]
    new = [*target._trainable_variables, *target._non_trainable_variables]
    for old_variable, new_variable in zip(own, new, strict=True):
        new_variable.assign(old_variable)
    for old_part, new_part in zip(source._layers, target._layers, strict=True):
        _copy_weights(old_part, new_part)
