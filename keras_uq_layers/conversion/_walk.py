"""One walk over the layers of a model, for all conversions of whole models."""

import inspect
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers.registration import PACKAGE


def convert(
    model: keras.Model,
    applies: Callable[[type], bool],
    counterpart: Callable[[keras.layers.Layer], keras.layers.Layer | None],
    transfer: Callable[[keras.layers.Layer, keras.layers.Layer], None],
    whole: type | tuple[type, ...] = (),
) -> keras.Model:
    """A copy of a model in which some layers are replaced by others.

    The copy has the same architecture, names and weights. Layers are found at
    any depth: in nested models, shared layers, and layers inside wrappers such
    as `TimeDistributed` and `RNN`. The model itself is left as it is.

    Args:
        model: A Sequential or Functional model, or an `Ensemble` of them.
        applies: Function from a class of layers to whether `counterpart` may
            replace layers of it.
        counterpart: Function from a layer to the one that replaces it, not
            built, or to None for a layer that stays. The layer may be built or
            not.
        transfer: Function that sets the weights of a replacement from the
            layer that it replaces, both built.
        whole: Classes of layers that are not looked into, since they answer
            for the layers inside of them.

    Returns:
        A new model, compiled as `model` is.

    Raises:
        ValueError: `model` is not a Keras model, is or holds a subclassed
            model, or holds a layer to replace that no config shows.
    """
    check_model(model)

    def replaced(layer):
        return counterpart(layer) if applies(type(layer)) else None

    with keras.saving.custom_object_scope(_unregistered(model)):
        config = _convert(
            keras.saving.serialize_keras_object(model),
            lambda part: _replace(part, applies, replaced),
            whole,
        )
        # The config comes from a live model, not from a file.
        copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    if model.built and not copy.built:
        copy.build(**_keras.build_shapes(model))
    for layer, holder in _left(copy, replaced, whole):
        raise ValueError(
            "`model` must be described by its config. A layer to replace is "
            f"left in the model made from it: {layer} in {holder}"
        )
    # Also in a model that is not built, whose layers may be: an `Ensemble`.
    _copy_weights(model, copy, replaced, transfer, whole)
    _copy_lora_alpha(model, copy)
    return copy


def check_model(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise arguments.error("model", "a Keras model", model)
    for part in _keras.all_layers(model):
        # Of the models of this package, as of Keras's, the config says all.
        known = _keras.is_keras(part) or type(part).__module__.startswith(f"{PACKAGE}.")
        if isinstance(part, keras.Model) and not known:
            raise ValueError(
                "`model` must be a Sequential or Functional model, and so must "
                "the models inside: the config of a subclassed model does not "
                f"say what it computes. Received: {part} of class "
                f"{type(part).__name__}"
            )


def _unregistered(model: keras.Model) -> dict[str, Any]:
    """Classes and functions that the config of the model names, by name.

    They are found there also where the user has never registered them.
    """
    found: list[Any] = []
    for part in _keras.all_layers(model):
        found.append(part)
        if isinstance(part, keras.Model):
            found.extend(_keras.compiled_objects(part))
    named = [part if inspect.isroutine(part) else type(part) for part in found]
    return {part.__name__: part for part in named if not _keras.is_keras(part)}


def _convert(
    config: Any, replace: Callable[[Config], Config], whole: type | tuple[type, ...]
) -> Any:
    """The config with layers in it replaced, at any depth."""
    if isinstance(config, (list, tuple)):
        return type(config)(_convert(part, replace, whole) for part in config)
    if not isinstance(config, dict):
        return config
    if "class_name" in config and isinstance(config.get("config"), dict):
        config = replace(config)
        if issubclass(_class_of(config), whole):
            return config
    return {key: _convert(value, replace, whole) for key, value in config.items()}


def _replace(config: Config, applies: Callable, replaced: Callable) -> Config:
    unbuilt = {key: value for key, value in config.items() if key != "build_config"}
    if config["class_name"] in ("Functional", "Sequential", "Ensemble", "__tensor__"):
        return unbuilt
    if not applies(_class_of(config)):
        return config  # no layer is made of it: its config is walked
    layer = replaced(keras.saving.deserialize_keras_object(unbuilt, safe_mode=False))
    if layer is None:
        return config
    # These belong to the place in the model, not to the layer.
    kept = {k: v for k, v in config.items() if k in ("name", "inbound_nodes")}
    return {**keras.saving.serialize_keras_object(layer), **kept}


def _class_of(config: Config) -> type:
    """The class that a config names; `object` where that is not known."""
    name = config["class_name"]
    cls = keras.saving.get_registered_object(config.get("registered_name") or name)
    cls = cls or keras.saving.get_custom_objects().get(name)
    cls = cls or getattr(keras.layers, name, None)
    return cls if isinstance(cls, type) else object


def _left(
    layer: keras.layers.Layer, replaced: Callable, whole: type | tuple[type, ...]
) -> Iterator[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """The layers that were not replaced, because no config shows them.

    Each comes with the layer that holds it.
    """
    if isinstance(layer, whole):
        return
    for part in _keras.parts_of(layer):
        if replaced(part) is not None:
            yield part, layer
        yield from _left(part, replaced, whole)


def _copy_weights(source, target, replaced, transfer, whole):
    """Copies weights between two trees of layers that differ where replaced."""
    if replaced(source) is not None:
        transfer(source, target)
        return
    if isinstance(source, whole):
        target.set_weights(source.get_weights())
        return
    weights = zip(
        _keras.own_variables(source), _keras.own_variables(target), strict=True
    )
    for old, new in weights:
        new.assign(ops.copy(old))  # on JAX, training would free a shared buffer
    _copy_adapted_state(source, target)
    parts = zip(_keras.parts_of(source), _keras.parts_of(target), strict=True)
    for old, new in parts:
        _copy_weights(old, new, replaced, transfer, whole)


def _copy_adapted_state(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Repeats what `adapt` has told a preprocessing layer beside its weights."""
    if isinstance(target, keras.layers.Normalization):
        target.finalize_state()
    if hasattr(source, "save_assets"):  # the vocabulary of a look-up
        with tempfile.TemporaryDirectory() as folder:
            source.save_assets(folder)
            target.load_assets(folder)


def _copy_lora_alpha(source: keras.Model, target: keras.Model) -> None:
    """Repeats `lora_alpha`, which `build` of some layers of Keras 3.15 forgets."""
    alphas = {}
    for layer in _keras.all_layers(source):
        inner = getattr(layer, "layer", layer)  # a wrapper may give its name
        if getattr(inner, "lora_enabled", False):
            alphas[layer.name] = inner.lora_alpha
    for layer in _keras.all_layers(target):
        if getattr(layer, "lora_enabled", False):
            layer.lora_alpha = alphas[layer.name]
