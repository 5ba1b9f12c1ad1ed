"""Which layer, loss and target belong to which output of a model."""

import inspect
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops
from keras import tree

from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.layers._head import Head
from keras_uq_layers.losses import FamilyLoss

_ELEMENTWISE = {
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "log_cosh",
    "huber",
    "binary_crossentropy",
    "poisson",
}
REGRESSION = _ELEMENTWISE - {"binary_crossentropy"}


@dataclass
class Output:
    """One output of the model: what makes it and what it is compared with."""

    name: str
    tensor: Any
    target: Any
    loss: Any  # a `keras.losses.Loss`, or None
    head: Any  # the head of this package that made it, or None

    @property
    def family(self):
        if isinstance(self.loss, FamilyLoss):
            return self.loss.family
        return self.head and self.head.family

    @property
    def function(self):
        """Name of the function of Keras that the loss is, or None."""
        return keras_function(self.loss)

    @property
    def averages(self):
        """Whether the loss is a mean over features, too."""
        return self.function in _ELEMENTWISE

    @property
    def custom(self):
        """Whether the loss is of the user's own making."""
        if self.loss is None or isinstance(self.loss, FamilyLoss):
            return False
        if keras_function(self.loss):
            return False
        return not _of_keras(getattr(self.loss, "fn", type(self.loss)))


def keras_function(loss):
    """Name of the function that a loss or metric of Keras averages, or None."""
    function = getattr(loss, "fn", None) or getattr(loss, "_fn", None)
    if function is None and inspect.isfunction(loss):
        function = loss
    if function is None or not _of_keras(function):
        return None
    return function.__name__


def _of_keras(thing):
    return getattr(thing, "__module__", "").split(".")[0] == "keras"


def of_model(context):
    """The outputs of the model, as a list of `Output`; empty where unclear."""
    if context.outputs is None:
        return []
    tensors = tree.flatten(context.outputs)
    names = getattr(context.model, "output_names", None) or []
    if len(names) != len(tensors):
        names = [f"output {i}" for i in range(len(tensors))]
    targets, losses = [None] * len(tensors), [None] * len(tensors)
    if context.compile_loss is not None and context.y is not None:
        flat = tree.flatten(context.y)
        parts = context.compile_loss._flat_losses or []
        if len(flat) == len(tensors) == 1 and len(parts) == 1:
            targets, losses = flat, [parts[0].loss]
        elif len(flat) == len(tensors) == len(parts):
            same = (list, tuple) if isinstance(context.outputs, (list, tuple)) else dict
            if isinstance(context.y, same):
                targets, losses = flat, [part.loss for part in parts]
    heads = {}
    for call in context.calls:
        for tensor in tree.flatten(call.outputs):
            if isinstance(call.layer, Head):
                heads[id(tensor)] = call.layer
            elif isinstance(getattr(call.layer, "layer", None), Head):
                heads[id(tensor)] = call.layer.layer  # in TimeDistributed
    return [
        Output(name, tensor, target, loss, heads.get(id(tensor)))
        for name, tensor, target, loss in zip(
            names, tensors, targets, losses, strict=True
        )
    ]


def head_calls(context):
    return [call for call in context.calls if isinstance(call.layer, Head)]


def latent_params(context):
    """Pairs of a call of a `NormalSampling` and the params that it receives."""
    for call in context.calls:
        if isinstance(call.layer, NormalSampling):
            yield call, tree.flatten((call.args, call.kwargs))[0]


def shape(tensor):
    return tuple(ops.shape(tensor))


def value(loss, y, pred):
    """A loss on arrays, as a float, or None where it cannot take them."""
    try:
        with keras.StatelessScope([]):
            y, pred = (ops.convert_to_tensor(a, "float32") for a in (y, pred))
            return float(ops.convert_to_numpy(loss(y, pred)))
    except Exception:
        return None
