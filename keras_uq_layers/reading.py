"""Which family reads the output of a model, or a params tensor.

Everything that takes a family beside a model, or beside the output of a model,
decides by the two functions here. The head is asked first. Params are never
read as a normal because nobody said otherwise.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.families._tag import attached_family


def family_of_params(params: Tensor, family: Identifier = None) -> Family:
    """The family that reads a params tensor.

    Args:
        params: A params tensor. The output of a head carries its family.
        family: Name or object of a family, or None.

    Returns:
        The family of the head, or the given family where there is no head. The
        name of a family of classes means its probabilities where `params` come
        from a softmax or a sigmoid of Keras.

    Raises:
        ValueError: No family is known, or the given family is not that of the
            head, or it is the name of a family of classes, and logits and
            probabilities cannot be told apart.
    """
    known = attached_family(params)
    if known is not None:
        return _agreed(known, family, "head")
    if family is None:
        raise ValueError(
            "`family` must be given for params that do not come directly from a "
            "head such as `uq.DistributionHead`, for example family='normal'. "
            "Received: family=None"
        )
    if _keras.is_probability(params):
        return _of_probabilities(family)
    if not _keras.in_symbolic_scope():
        _check_not_a_name_of_classes(family)
    return families.get(family)


def _check_not_a_name_of_classes(family: Identifier) -> None:
    """For an output that may hold logits or probabilities.

    A layer after a softmax drops the note that Keras leaves on its output, and
    a compiled step of JAX cannot see it.
    """
    given = families.get(family)
    if isinstance(family, str) and isinstance(given, ClassFamily):
        raise ValueError(
            "`family` must be an object where logits and probabilities cannot be "
            f"told apart: uq.families.{type(given).__name__}() for logits, with "
            f"from_logits=False for probabilities. Received: family={family!r}"
        )


def is_placeholder(params: Tensor) -> bool:
    """Whether Keras only builds, with a tensor that cannot carry a family.

    On JAX and PyTorch, `fit` first builds losses and metrics with tensors of
    the right shape that stand for the output of the model.
    """
    return attached_family(params) is None and _keras.in_symbolic_scope()


@dataclasses.dataclass(frozen=True)
class Emitted:
    """The notes that heads and activations left on a tensor which a model made."""

    shape: tuple[int, ...]
    family: Family | None
    is_probability: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "Emitted":
        probability = _keras.is_probability(tensor)
        return cls(tuple(tensor.shape), attached_family(tensor), probability)


def family_of(model: keras.Model, family: Any = None, output: Any = None) -> Any:
    """The family that reads the output of a model, or each of several outputs.

    Args:
        model: A Keras model.
        family: Name or object of a family, or None; for several outputs also
            one of these for each, in the structure of the output. A dict may
            leave out keys.
        output: An `Emitted` for each output, if the model was run. A subclassed
            model tells nothing without it.

    Returns:
        The family of the model's head, else that of its compiled loss. A plain
        Keras model is read as `Categorical` or `Bernoulli` where its last
        activation or its compiled loss says so: a softmax, a sigmoid, a cross
        entropy. Whether the output holds probabilities or logits is decided by
        the activation and by `from_logits`, never by looking at values. Any
        other plain model is read as `Point`. For several outputs a family each,
        in the structure of the output.

    Raises:
        ValueError: A head or a softmax does not emit the output, but an output
            is made of it; or the given family contradicts the model, or does
            not fit the structure of its output.
    """
    # The members of an ensemble are alike, and say more than the ensemble.
    first = next(iter(getattr(model, "members", [])), model)
    symbols = _symbolic_output(first)
    structure = symbols if output is None else output
    count = len(tree.flatten(structure))
    made = [None] * count if output is None else tree.flatten(output)
    graph = [None] * count if symbols is None else tree.flatten(symbols)
    losses = _losses(model, first, structure)
    given = _one_for_each(family, structure)
    other_head = _other_head(model, made)
    found = [
        _read(_Output(model, tensor, symbol, loss, other_head), one)
        for tensor, symbol, loss, one in zip(made, graph, losses, given, strict=True)
    ]
    return tree.pack_sequence_as(structure, found)


def _symbolic_output(model: keras.Model) -> Any:
    """The output in the graph of layers that a model is, or None."""
    if not _keras.is_graph_of_layers(model) or not model.outputs:
        return None
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def _one_for_each(family: Any, structure: Any) -> list[Any]:
    """The given family of each output, in the order of `tree.flatten`."""
    count = len(tree.flatten(structure))
    if not tree.is_nested(structure) or not tree.is_nested(family):
        return [family] * count
    dicts = isinstance(structure, dict) and isinstance(family, dict)
    if dicts and set(family) <= set(structure):
        family = {key: family.get(key) for key in structure}
    flat = tree.flatten(family)
    if type(family) is not type(structure) or len(flat) != count:
        raise arguments.error(
            "family",
            "one for all outputs of the model, or one for each, in the structure of "
            f"its output: {tree.map_structure(lambda _: 'normal', structure)}",
            family,
        )
    return flat


def _losses(model: keras.Model, first: keras.Model, structure: Any) -> list[Any]:
    """The compiled loss of each output, or None, matched as Keras does."""
    count = len(tree.flatten(structure))
    loss = getattr(model, "loss", None)
    if isinstance(loss, dict) and isinstance(structure, dict):
        found = [_at(path, loss) for path, _ in tree.flatten_with_path(structure)]
    elif isinstance(loss, dict) and count > 1:
        found = [loss.get(name) for name in getattr(first, "output_names", [])]
    elif tree.is_nested(loss):
        found = tree.flatten(loss)
    else:
        found = [loss] * count
    if len(found) != count:  # Keras lets such a loss see all outputs.
        return [None] * count
    return [keras.losses.get(one) for one in found]


def _at(path: tuple, losses: Any) -> Any:
    """The loss at a place of a nested output; one may serve all below a place."""
    for key in path:
        if isinstance(losses, dict):
            losses = losses.get(key)
        elif isinstance(losses, (list, tuple)):
            losses = losses[key]
    return losses


@dataclasses.dataclass(frozen=True)
class _Output:
    """One output of a model, and what is known of it."""

    model: keras.Model
    made: Emitted | None  # in a run
    symbol: Tensor | None  # in the graph of layers that the model is
    loss: Any
    other_head: Any


def _read(output: _Output, given: Identifier) -> Family:
    """The family of one output."""
    known = _head_family(output)
    if known is not None:
        return _agreed(known, given, "head")
    probabilities = _last_activation(output.symbol)
    known = _loss_family(output.loss, probabilities)
    if known is not None:
        return _agreed(known, given, "loss")
    known = probabilities or _class_family(output.loss)
    # Another family may be meant. Logits and probabilities of one family are
    # told apart by the model alone.
    if known is not None and (given is None or families.get(given).name == known.name):
        return _agreed(known, given, "last activation or loss")
    if given is None:
        reason = _obstacle(output)
        if reason:
            raise ValueError(
                f"`family` must be given for the model {output.model.name!r}: "
                f"{reason}. Received: family=None"
            )
        return families.Point()
    if probabilities or (output.made and output.made.is_probability):
        return _of_probabilities(given)
    if output.symbol is None or _obstacle(output):
        _check_not_a_name_of_classes(given)
    return families.get(given)


def _of_probabilities(family: Identifier) -> Family:
    """The family that reads the output of a softmax or a sigmoid."""
    given = families.get(family)
    if isinstance(given, ClassFamily):
        known = type(given)(from_logits=False)
        return _agreed(known, family, "last activation")
    return given


def _agreed(known: Family, given: Identifier, source: str) -> Family:
    """The known family, if the given one is none, its name or its equal."""
    if given is None or given == known.name or families.get(given) == known:
        return known
    raise ValueError(
        f"`family` must be {known!r}, the family of the model's {source}: leave "
        f"`family` out, or change the {source}. Received: family={given!r}"
    )


# Heads


def _head_family(output: _Output) -> Family | None:
    """The family of the head that emits an output."""
    if output.made is not None and output.made.family is not None:
        return output.made.family
    if output.symbol is None:
        return None
    tensor, operation, _ = _origin(output.symbol)
    # A wrapper, such as `TimeDistributed`, drops the note.
    return attached_family(tensor) or _family_attribute(operation)


def _family_attribute(layer: Any) -> Family | None:
    family = getattr(layer, "family", None)
    return family if isinstance(family, Family) else None


def _obstacle(output: _Output) -> str | None:
    """Why an output cannot be taken for a plain prediction, or None."""
    if output.symbol is not None:
        for tensor, operation in _upstream(output.symbol):
            if attached_family(tensor) or _family_attribute(operation):
                return f"its output is made of that of the head {operation.name!r}"
            if _activation_family(operation):
                return f"its output is made of the probabilities of {operation.name!r}"
        return None
    if output.made is not None:
        if output.made.is_probability:
            return "it emits probabilities, 'categorical' or 'bernoulli'"
        for layer in _keras.all_layers(output.model):
            width = getattr(layer, "units", None)
            if _activation_family(layer) and width == output.made.shape[-1]:
                return f"its layer {layer.name!r} makes probabilities of that width"
    if output.other_head is not None:
        return f"it has a head, {output.other_head.name!r}, which emits no output"
    return None


def _other_head(model: keras.Model, made: list[Emitted | None]) -> Any:
    """A head of a model that emits none of its outputs, or None."""
    heads = [part for part in _keras.all_layers(model) if _family_attribute(part)]
    seen = [one for one in made if one is not None and one.family is not None]
    return heads[0] if len(heads) > len(seen) else None


# Graphs of layers


def _origin(tensor: Tensor) -> tuple[Tensor, Any, list[Tensor]]:
    """Where a symbolic tensor comes from: out of wrappers and nested models.

    Returns:
        The tensor as it was emitted, the layer or operation that did so, and
        the symbolic inputs of that.
    """
    operation, index, inputs = _keras.history_of(tensor)
    while isinstance(operation, keras.layers.Wrapper):
        operation = operation.layer
    if isinstance(operation, keras.Model) and _symbolic_output(operation) is not None:
        return _origin(operation.outputs[index])
    return tensor, operation, inputs


def _upstream(tensor: Tensor) -> Iterator[tuple[Tensor, Any]]:
    """A tensor, and those that it is made of without any weights, with origins."""
    waiting, seen = [tensor], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        outer, _, outer_inputs = _keras.history_of(tensor)
        inner, operation, inputs = _origin(tensor)
        yield inner, operation
        if not getattr(operation, "weights", []):
            waiting.extend(inputs)
        if not getattr(outer, "weights", []):  # perhaps a nested model
            waiting.extend(outer_inputs)


def _last_activation(tensor: Tensor | None) -> Family | None:
    """The family of the last activation, if that is a softmax or a sigmoid."""
    if tensor is None:
        return None
    tensor, operation, inputs = _origin(tensor)
    if not _moves_values(operation):
        return _activation_family(operation)
    family = _last_activation(inputs[0])
    same_axis = inputs[0].shape[-1] == tensor.shape[-1]
    return family if same_axis or isinstance(family, families.Bernoulli) else None


def _moves_values(operation: Any) -> bool:
    """Whether a layer at most puts the values of its input into another shape."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    kinds = (keras.layers.Identity, keras.layers.Reshape, keras.layers.Flatten)
    return isinstance(operation, kinds)


def _activation_family(layer: Any) -> Family | None:
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Softmax):
        activation = keras.activations.softmax
    if activation is keras.activations.softmax:
        return families.Categorical(from_logits=False)
    if activation is keras.activations.sigmoid:
        return families.Bernoulli(from_logits=False)
    return None


# Losses


def _loss_family(loss: Any, probabilities: Family | None) -> Family | None:
    """The family of a loss of this package, as that loss reads the output."""
    family = getattr(loss, "family", None)
    if family is None:
        return None
    if probabilities:
        # The loss was given a name, perhaps, which does not speak of logits.
        return _of_probabilities(getattr(loss, "_given", family))
    return families.get(family)


def _class_family(loss: Any) -> Family | None:
    """The family that a cross entropy of Keras stands for."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "")
    from_logits = bool(getattr(loss, "from_logits", False))
    if name in ("categorical_crossentropy", "sparse_categorical_crossentropy"):
        return families.Categorical(from_logits=from_logits)
    if name == "binary_crossentropy":
        return families.Bernoulli(from_logits=from_logits)
    return None
