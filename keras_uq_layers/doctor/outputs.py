"""Which layer, loss and target belong to which output of a model."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.recorder import Call
from keras_uq_layers.doctor.recorder import Crossentropy
from keras_uq_layers.families import Bernoulli
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.families._tag import attached_family
from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.layers._head import Head
from keras_uq_layers.losses import FamilyLoss
from keras_uq_layers.metrics import FamilyMetric
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.reading import family_of_params

REGRESSION = {
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "log_cosh",
    "huber",
    "poisson",
}
_ELEMENTWISE = {*REGRESSION, "binary_crossentropy"}
_WITH_KERNEL = (keras.layers.Dense, keras.layers.EinsumDense)


@dataclass
class Output:
    """One output of the model: its origin, and what it is compared with.

    Attributes:
        name: Its key, the name that Keras gives it, or its number.
        tensor: The output in training.
        layer: The layer that emitted it, or None.
        target: The targets that its loss received, or None.
        loss: A `keras.losses.Loss` or a function, or None.
        compared: The output as its loss received it, that of one member of an
            `uq.Ensemble`; or None.
        crossentropies: The calls of a cross entropy of Keras by that loss.
    """

    name: str
    tensor: Tensor
    layer: Any = None
    target: Any = None
    loss: Any = None
    compared: Any = None
    crossentropies: list[Crossentropy] = field(default_factory=list)

    @property
    def head(self) -> Any:
        """The head of this package that emitted the output, or None."""
        return self.layer if isinstance(self.layer, Head) else None

    @property
    def noted_family(self) -> Family | None:
        """The family that a head noted on the tensor. Losses find it there."""
        return attached_family(self.tensor)

    @property
    def family(self) -> Family | None:
        """The family of the head, else that of the loss, else None."""
        return self.noted_family or getattr(self.head or self.loss, "family", None)

    @property
    def path(self) -> str:
        layer = self.layer
        return self.name if layer is None else layer.path or layer.name

    @property
    def probabilities(self) -> bool | None:
        """Whether the last activation makes probabilities.

        None: the last layer does not tell. Values never decide: the logits of
        a model may lie between 0 and 1.
        """
        if self.head is not None:
            family = self.head.family
            return not family.from_logits if isinstance(family, ClassFamily) else None
        activation = getattr(self.layer, "activation", None)
        if isinstance(self.layer, keras.layers.Softmax):
            activation = keras.activations.softmax
        if activation in (keras.activations.softmax, keras.activations.sigmoid):
            return True
        linear = activation is keras.activations.linear
        return False if linear and isinstance(self.layer, _WITH_KERNEL) else None

    @property
    def bernoulli_logits(self) -> bool:
        """Whether the outputs are logits of yes or no."""
        if isinstance(self.family, Bernoulli):
            return self.family.from_logits
        return any(
            call.name == "binary_crossentropy" and call.from_logits
            for call in self.crossentropies
        )

    @property
    def numbers(self) -> Array | None:
        """The targets as numbers `(N, D)`, of intervals the middles; None: unknown."""
        if self.target is None:
            return None
        y, family = to_numpy(self.target), self.family
        if family is None or isinstance(family, ClassFamily):
            return y
        try:
            y = family.target_numbers(y, family.units(self.compared.shape[-1]))
        except ValueError:
            return None  # other checks say what is wrong with them
        return y[np.isfinite(y).all(axis=-1)]

    @property
    def function(self) -> str | None:
        """Name of the function of Keras that the loss is, or None."""
        return keras_function(self.loss)

    @property
    def averages(self) -> bool:
        """Whether the loss is a mean over features, too."""
        return self.function in _ELEMENTWISE

    @property
    def custom(self) -> bool:
        """Whether the loss is of the user's own making."""
        if self.loss is None or isinstance(self.loss, FamilyLoss) or self.function:
            return False
        return not _keras.is_keras(getattr(self.loss, "fn", type(self.loss)))


def keras_function(loss: Any) -> str | None:
    """Name of the function that a loss or metric of Keras averages, or None."""
    function = getattr(loss, "fn", None) or getattr(loss, "_fn", None)
    if function is None and inspect.isfunction(loss):
        function = loss
    if function is None or not _keras.is_keras(function):
        return None
    return function.__name__


def of_model(context: Context) -> list[Output]:
    """The outputs of the model.

    Their losses and targets are those that Keras compared with them.
    """
    if context.outputs is None:
        return []
    record = context.record
    tensors = tree.flatten(context.outputs)
    found = [
        Output(name, tensor, _last_layer(context, tensor))
        for name, tensor in zip(_names(context, len(tensors)), tensors, strict=True)
    ]
    for number, (loss, y_true, y_pred) in enumerate(record.losses):
        for output in found:
            if len(found) == 1 or output.tensor is y_pred:
                output.loss, output.target, output.compared = loss, y_true, y_pred
                output.crossentropies = [
                    call for call in record.crossentropies if call.loss == number
                ]
    if len(found) == 1 and not record.losses:
        found[0].crossentropies = record.crossentropies
    return found


def _names(context: Context, count: int) -> list[str]:
    """A name for each output, in the order of `tree.flatten`."""
    if isinstance(context.outputs, dict):
        # `tree.flatten` sorts the keys.
        names = tree.flatten({key: str(key) for key in context.outputs})
    else:
        names = getattr(context.model, "output_names", None) or []
    return names if len(names) == count else [f"output {i}" for i in range(count)]


def _last_layer(context: Context, tensor: Tensor) -> keras.layers.Layer | None:
    """The innermost layer that emitted a tensor, out of its wrapper."""
    for call in context.calls:
        if any(made is tensor for made in tree.flatten(call.outputs)):
            layer = call.layer
            while isinstance(layer, keras.layers.Wrapper):
                layer = layer.layer
            return layer
    return None


def metrics(context: Context) -> Iterator[tuple[Output, Any]]:
    """Pairs of an output and a metric, as the user gave it, that belongs to it."""
    found = of_model(context)
    for given in _keras.user_metrics(context.model):
        if isinstance(given, dict):
            named = [(metric, name) for name, metric in given.items()]
        elif isinstance(given, (list, tuple)) and len(given) == len(found) > 1:
            names = getattr(context.model, "output_names", None) or []
            named = list(zip(given, names, strict=False))
        else:
            named = [(given, None)]
        for part, name in named:
            belongs = [o for o in found if len(found) == 1 or o.name == name]
            for metric in tree.flatten(part) if len(belongs) == 1 else ():
                yield belongs[0], metric


def readers(context: Context) -> Iterator[tuple[Output, FamilyLoss | FamilyMetric]]:
    """Pairs of an output and a loss or metric of this package that reads it."""
    for output in of_model(context):
        if isinstance(output.loss, FamilyLoss):
            yield output, output.loss
    for output, metric in metrics(context):
        if isinstance(metric, FamilyMetric):
            yield output, metric


def family_read(output: Output, reader: FamilyLoss | FamilyMetric) -> Any:
    """The family with which a loss or metric reads an output in a compiled step."""
    if not _keras.notes_probabilities_in_steps():
        return reader.family
    try:
        return family_of_params(output.tensor, reader.get_config().get("family"))
    except ValueError:
        return reader.family  # It contradicts the output.


def head_calls(context: Context) -> list[Call]:
    """The calls of heads of this package."""
    return [call for call in context.calls if isinstance(call.layer, Head)]


def latent_params(context: Context) -> Iterator[tuple[Call, Tensor]]:
    """Pairs of a call of a `NormalSampling` and the params that it receives."""
    for call in context.calls:
        if isinstance(call.layer, NormalSampling):
            yield call, tree.flatten((call.args, call.kwargs))[0]


def value(loss: Any, y: Array, pred: Array) -> float:
    """A loss on arrays."""
    with keras.StatelessScope([]):
        y, pred = (ops.convert_to_tensor(a, "float32") for a in (y, pred))
        return float(ops.convert_to_numpy(loss(y, pred)))
