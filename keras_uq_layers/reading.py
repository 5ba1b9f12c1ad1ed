"""Which family reads the output of a model, or a params tensor.

Everything that takes a family beside a model, or beside the output of a model,
decides by the two functions here. The head is asked first. Params are never
read as a normal because nobody said otherwise.
"""

import keras
from keras import tree

from keras_uq_layers import _keras
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
            head.
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
    given = families.get(family)
    if isinstance(family, str) and isinstance(given, ClassFamily):
        _check_step_knows_logits(family, given, params)
    return given


def _check_step_knows_logits(name: str, given: ClassFamily, params: Tensor) -> None:
    """On JAX the name of a family of classes is not enough in a compiled step.

    Elsewhere Keras's softmax leaves a note on its output.
    """
    if _keras.notes_probabilities_in_steps() or _keras.in_symbolic_scope():
        return
    if _keras.is_traced(params):
        raise ValueError(
            "`family` must be an object on JAX, where a compiled step cannot see a "
            f"softmax or a sigmoid: uq.families.{type(given).__name__}() for logits, "
            "with from_logits=False for probabilities. "
            f"Received: family={name!r}"
        )


def is_placeholder(params: Tensor) -> bool:
    """Whether Keras only builds, with a tensor that cannot carry a family.

    On JAX and PyTorch, `fit` first builds losses and metrics with tensors of
    the right shape that stand for the output of the model.
    """
    return attached_family(params) is None and _keras.in_symbolic_scope()


def family_of(model: keras.Model, family: Identifier = None) -> Family:
    """The family that reads the output of a model.

    Args:
        model: A Keras model with one output.
        family: Name or object of a family, or None.

    Returns:
        The family of the model's head, else that of its compiled loss. A plain
        Keras model is read as `Categorical` or `Bernoulli` where its last
        activation or its compiled loss says so: a softmax, a sigmoid, a cross
        entropy. Whether the output holds probabilities or logits is decided by
        the activation and by `from_logits`, never by looking at values.

    Raises:
        ValueError: No family is known, or the given family contradicts the
            model.
    """
    known = _head_family(model)
    if known is not None:
        return _agreed(known, family, "head")
    known = _loss_family(model)
    if known is not None:
        return _agreed(known, family, "loss")
    known = _class_family(model)
    if family is None and known is None:
        raise ValueError(
            f"`family` must be given for the model {model.name!r}: it has no head and "
            "no loss of this library, and neither its last activation nor its loss "
            "is one of classes. Let it end in `uq.DistributionHead`, or name the "
            "family of its output, for example family='normal' for [loc | scale]. "
            "Received: family=None"
        )
    if known is None:
        return families.get(family)
    # Another family may be meant. Logits and probabilities of one family are
    # told apart by the model alone.
    if family is None or families.get(family).name == known.name:
        return _agreed(known, family, "last activation or loss")
    return _of_probabilities(family) if _probabilities(model) else families.get(family)


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


def _head_family(model: keras.Model) -> Family | None:
    """The family of the head that emits the output of a model."""
    output, layer = _end(model)
    if layer is not None:
        tagged = None if output is None else attached_family(output)
        return tagged or _family_attribute(layer)
    # A subclassed model does not tell which layer comes last.
    found = {_family_attribute(layer) for layer in _keras.all_layers(model)} - {None}
    return found.pop() if len(found) == 1 else None


def _family_attribute(thing: object) -> Family | None:
    family = getattr(thing, "family", None)
    return family if isinstance(family, Family) else None


def _end(model: keras.Model) -> tuple[Tensor | None, keras.layers.Layer | None]:
    """The only symbolic output of a model, and the layer that made it.

    Both are None where the model does not tell: it is subclassed, not built, or
    has several outputs. Of an ensemble, they are those of its first member.
    """
    model = next(iter(getattr(model, "members", [])), model)
    outputs = tree.flatten(getattr(model, "outputs", None) or [])
    if len(outputs) != 1:
        return None, None
    layer = _keras.producer_of(outputs[0])
    while isinstance(layer, keras.layers.Wrapper):
        layer = layer.layer
    if isinstance(layer, keras.Model):
        return outputs[0], _end(layer)[1]
    return outputs[0], layer


def _compiled_loss(model: keras.Model) -> object:
    """The loss that a model with one output was compiled with, or None."""
    losses = tree.flatten(getattr(model, "loss", None))
    return keras.losses.get(losses[0]) if len(losses) == 1 else None


def _loss_family(model: keras.Model) -> Family | None:
    """The family of the compiled loss, as that loss reads the output."""
    loss = _compiled_loss(model)
    family = getattr(loss, "family", None)
    if family is None:
        return None
    if _probabilities(model):
        # The loss was given a name, perhaps, which does not speak of logits.
        return _of_probabilities(getattr(loss, "_given", family))
    return families.get(family)


def _probabilities(model: keras.Model) -> Family | None:
    """The family of the last activation, if that is a softmax or a sigmoid."""
    _, layer = _end(model)
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Softmax):
        activation = keras.activations.softmax
    if activation is keras.activations.softmax:
        return families.Categorical(from_logits=False)
    if activation is keras.activations.sigmoid:
        return families.Bernoulli(from_logits=False)
    return None


def _class_family(model: keras.Model) -> Family | None:
    """The family of a plain Keras classifier."""
    known = _probabilities(model)
    if known is not None:
        return known
    loss = _compiled_loss(model)
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "")
    from_logits = bool(getattr(loss, "from_logits", False))
    if name in ("categorical_crossentropy", "sparse_categorical_crossentropy"):
        return families.Categorical(from_logits=from_logits)
    if name == "binary_crossentropy":
        return families.Bernoulli(from_logits=from_logits)
    return None
