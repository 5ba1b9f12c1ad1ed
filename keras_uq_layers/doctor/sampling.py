"""Checks of randomness, and of what a saved model needs to load again."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import finite
from keras_uq_layers.doctor.context import floats_in
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings


def no_seed_generator(context: Context) -> Findings:
    seen = set()
    for layer, seed in context.record.draws:
        own = _keras.is_keras(layer)
        if isinstance(seed, keras.random.SeedGenerator) or own or id(layer) in seen:
            continue
        seen.add(id(layer))
        what = (
            "without a seed, from the global generator of Keras"
            if seed is None
            else f"with `seed={seed!r}`, the same numbers in every step"
        )
        yield Finding(
            "no-seed-generator",
            layer.path or layer.name,
            f"This {type(layer).__name__} draws random numbers {what}.",
            "Make `self.seed_generator = keras.random.SeedGenerator(seed)` in "
            "`__init__` and pass `seed=self.seed_generator` to each draw.",
        )


def random_outside_of_keras(context: Context) -> Findings:
    if context.outputs is None:
        return
    for call, again in zip(context.calls, context.calls_again, strict=False):
        first, second = (floats_in(c.outputs) for c in (call, again))
        if len(first) != len(second) or not all(map(finite, first + second)):
            return
        if _same(first, second):
            continue
        if _keras.is_keras(call.layer) or _ours(call.layer):
            # Dropout on PyTorch draws from the generator of PyTorch.
            return
        yield Finding(
            "no-seed-generator",
            call.path,
            "Two passes with the same states of all seed generators differ, first in "
            f"this {type(call.layer).__name__}, by up to "
            f"{_difference(first, second):.3g}: it draws from elsewhere.",
            "Draw with `keras.random` and a `keras.random.SeedGenerator` of the "
            "layer, not with NumPy or a backend: in a compiled step NumPy draws only "
            "once.",
        )
        return


def _ours(layer: keras.layers.Layer) -> bool:
    return type(layer).__module__.split(".")[0] == "keras_uq_layers"


def _same(first: list[Array], second: list[Array]) -> bool:
    return all(
        np.allclose(
            a, b, rtol=1e-3, atol=1e-5 * np.abs(a).max(initial=0), equal_nan=True
        )
        for a, b in zip(first, second, strict=True)
    )


def _difference(first: list[Array], second: list[Array]) -> float:
    return max(np.nanmax(np.abs(a - b)) for a, b in zip(first, second, strict=True))


def inference(context: Context) -> Findings:
    """Notes on what is random at inference, and on what is not."""
    drawn = list({id(layer): layer for layer, _ in context.record.draws}.values())
    if context.outputs is None or not drawn:
        return
    later = {id(layer) for layer in context.drawn_at_inference}
    kept = [layer for layer in drawn if id(layer) in later]
    if kept:
        first, second = (
            tree.flatten(context.passed(training=False, draw=draw)) for draw in (1, 2)
        )
        if all(finite(a) for a in first) and not _same(first, second):
            yield Finding(
                "samples-at-inference",
                ", ".join(layer.path or layer.name for layer in kept),
                "Two calls of the model on the same x differ by up to "
                f"{_difference(first, second):.3g}.",
                "Right for Monte Carlo predictions: `uq.predict(model, x)` averages "
                "them. For one fixed answer: `uq.to_deterministic(model)`.",
                problem=False,
            )
    lost = [
        layer
        for layer in drawn
        if id(layer) not in later and not _keras.is_keras(layer)
    ]
    for layer in lost:
        yield Finding(
            "deterministic-at-inference",
            layer.path or layer.name,
            f"This {type(layer).__name__} draws in training and not at inference: "
            "predictions do not contain its uncertainty.",
            "If it should, draw whatever `training` says.",
            problem=False,
        )


def will_not_reload(context: Context) -> Findings:
    for kind, layer in {type(layer): layer for layer in _own(context)}.items():
        name = keras.saving.get_registered_name(kind)
        if keras.saving.get_registered_object(name) is not kind:
            yield Finding(
                "not-registered",
                layer.path or layer.name,
                f"{kind.__name__} is not registered: a saved model loads only with "
                f"`custom_objects={{'{kind.__name__}': {kind.__name__}}}`.",
                "Decorate the class with "
                "`@keras.saving.register_keras_serializable(package='...')`.",
                problem=False,
            )
        message = _config_error(kind, layer)
        if message:
            needed = [
                p.name
                for p in inspect.signature(kind.__init__).parameters.values()
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
                and p.name not in ("self", "name", "dtype", "trainable")
            ]
            yield Finding(
                "no-config",
                layer.path or layer.name,
                f"{kind.__name__} cannot be made from its config: {message}",
                f"Write `get_config` with the arguments of `__init__` "
                f"({', '.join(needed)}): `return {{**super().get_config(), ...}}`.",
            )


def _own(context: Context) -> Iterator[keras.layers.Layer]:
    for layer in context.layers:
        if not (_keras.is_keras(layer) or _ours(layer)) and layer is not context.model:
            yield layer


def _config_error(kind: Any, layer: keras.layers.Layer) -> str | None:
    try:
        config = layer.get_config()
    except Exception as error:
        return f"{type(error).__name__} in `get_config`."
    try:
        # Inside of a scope, and with names kept: a copy that nobody sees.
        with keras.saving.custom_object_scope({kind.__name__: kind}):
            kind.from_config(dict(config))
    except Exception as error:
        return " ".join(str(error).split())[:200]
    return None


CHECKS = [no_seed_generator, random_outside_of_keras, inference, will_not_reload]
