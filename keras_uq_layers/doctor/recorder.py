"""Records the inputs and outputs of every layer of a model during a pass."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from unittest import mock

import keras
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family

# Not recorded inside: these layers call others in a loop or with other weights.
_OPAQUE = (keras.layers.RNN, keras.layers.Wrapper)


@dataclass
class Call:
    """One call of a layer."""

    layer: keras.layers.Layer
    args: tuple
    kwargs: dict
    outputs: Any = None
    leaf: bool = True  # no other layer was called inside

    @property
    def path(self) -> str:
        return self.layer.path or self.layer.name


@dataclass
class Crossentropy:
    """One call of a cross entropy of Keras; `loss`: number of the loss, or -1."""

    name: str
    loss: int
    target: Any
    output: Any
    from_logits: bool


@dataclass
class Record:
    """The record of one pass.

    `calls` are in the order in which they returned: a layer comes after the
    layers inside of it, so that the first fault is the innermost one. `losses`
    are triples of a loss, its targets and its predictions.
    """

    calls: list[Call] = field(default_factory=list)
    added: list[tuple[str, keras.layers.Layer, Any]] = field(default_factory=list)
    losses: list[tuple[Any, Any, Any]] = field(default_factory=list)
    crossentropies: list[Crossentropy] = field(default_factory=list)
    draws: list[tuple[keras.layers.Layer, Any]] = field(default_factory=list)


@contextlib.contextmanager
def recording(shifts: dict[int, Tensor] | None = None) -> Iterator[Record]:
    """Records all calls of Keras layers while the context is open.

    Args:
        shifts: Dict from the number of a call to a tensor of zeros that is
            added to its output, so that the gradient of the zeros is that of
            the output.
    """
    record = Record()
    open_calls: list[Call] = []
    call_layer = keras.layers.Layer.__call__
    add_loss = keras.layers.Layer.add_loss

    def record_call(layer, *args, **kwargs):
        if any(isinstance(call.layer, _OPAQUE) for call in open_calls):
            return call_layer(layer, *args, **kwargs)
        call = Call(layer, args, kwargs)
        for outer in open_calls:
            outer.leaf = False
        open_calls.append(call)
        try:
            call.outputs = call_layer(layer, *args, **kwargs)
        finally:
            open_calls.pop()
        if shifts and len(record.calls) in shifts:
            call.outputs = _shifted(call.outputs, shifts[len(record.calls)])
        record.calls.append(call)
        return call.outputs

    def record_loss(layer, loss):
        path = open_calls[-1].path if open_calls else layer.path
        record.added += [(path, layer, part) for part in tree.flatten(loss)]
        return add_loss(layer, loss)

    backend_random = _keras.random_module()
    draw_seed = backend_random.draw_seed

    def record_draw(seed):
        if open_calls:
            record.draws.append((open_calls[-1].layer, seed))
        return draw_seed(seed)

    with contextlib.ExitStack() as stack:
        patch = mock.patch.object
        stack.enter_context(patch(keras.layers.Layer, "__call__", record_call))
        stack.enter_context(patch(keras.layers.Layer, "add_loss", record_loss))
        stack.enter_context(patch(backend_random, "draw_seed", record_draw))
        for module, name in _keras.crossentropies():
            stack.enter_context(
                patch(module, name, _observed(getattr(module, name), name, record))
            )
        yield record


def _observed(function: Callable, name: str, record: Record) -> Callable:
    def observed(target, output, from_logits=False, *args, **kwargs):
        number = len(record.losses) - 1  # of the loss that calls it
        found = Crossentropy(name, number, target, output, from_logits)
        record.crossentropies.append(found)
        return function(target, output, from_logits, *args, **kwargs)

    return observed


def _shifted(outputs: Tensor, shift: Tensor) -> Tensor:
    shifted = outputs + shift
    mask = _keras.mask_of(outputs)
    if mask is not None:
        _keras.attach_mask(shifted, mask)
    return attach_family(shifted, attached_family(outputs))
