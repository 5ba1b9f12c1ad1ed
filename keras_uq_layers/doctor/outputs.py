"""Which layer, loss and target belong to which output of a model."""

import inspect
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers.doctor.recorder import Crossentropy
from keras_uq_layers.families import Bernoulli
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.families._tag import attached_family
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
_WITH_KERNEL = (keras.layers.Dense, keras.layers.EinsumDense)


@dataclass
class Output:
    """One output of the model: what makes it and what it is compared with.

    `layer` is the layer that emitted it, or None; `head` the same where it is a
    head of this package. `loss` is a `keras.losses.Loss` or a function, or
    None, and `crossentropies` are the calls that it made.
    """

    name: str
    tensor: Any
    layer: Any = None
    target: Any = None
    loss: Any = None
    crossentropies: list[Crossentropy] = field(default_factory=list)

    @property
    def head(self):
        return self.layer if isinstance(self.layer, Head) else None

    @property
    def noted_family(self):
        """The family that a head noted on the tensor, which a loss finds there."""
        return attached_family(self.tensor)

    @property
    def family(self):
        """That of the head, else that of the loss, else None."""
        if self.noted_family is not None:
            return self.noted_family
        if self.head is not None:
            return self.head.family
        return self.loss.family if isinstance(self.loss, FamilyLoss) else None

    @property
    def path(self):
        layer = self.layer
        return self.name if layer is None else layer.path or layer.name

    @property
    def probabilities(self):
        """Whether the last activation makes probabilities, True or False.

        None: the activation does not tell. Values never decide: the logits of a
        model may lie between 0 and 1.
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
    def bernoulli_logits(self):
        """Whether the outputs are logits of yes or no."""
        if isinstance(self.family, Bernoulli):
            return self.family.from_logits
        return any(
            call.name == "binary_crossentropy" and call.from_logits
            for call in self.crossentropies
        )

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
        return not _keras.is_keras(getattr(self.loss, "fn", type(self.loss)))


def keras_function(loss):
    """Name of the function that a loss or metric of Keras averages, or None."""
    function = getattr(loss, "fn", None) or getattr(loss, "_fn", None)
    if function is None and inspect.isfunction(loss):
        function = loss
    if function is None or not _keras.is_keras(function):
        return None
    return function.__name__


def of_model(context):
    """The outputs of the model, as a list of `Output`; empty where unclear.

    Losses and targets are those that Keras itself compared with the output.
    """
    if context.outputs is None:
        return []
    found = [
        Output(name, tensor, _last_layer(context, tensor))
        for name, tensor in zip(
            _names(context), tree.flatten(context.outputs), strict=True
        )
    ]
    for number, (loss, y_true, y_pred) in enumerate(context.record.losses):
        for output in found:
            if len(found) == 1 or output.tensor is y_pred:
                output.loss, output.target = loss, y_true
                output.crossentropies = [
                    call
                    for call in context.record.crossentropies
                    if call.loss == number
                ]
    if len(found) == 1 and not context.record.losses:
        found[0].crossentropies = context.record.crossentropies
    return found


def _names(context):
    """A name for each output, in the order of `tree.flatten`."""
    if isinstance(context.outputs, dict):
        # Flattened in the order of sorted keys, as is everything that is nested.
        names = tree.flatten({key: str(key) for key in context.outputs})
    else:
        names = getattr(context.model, "output_names", None) or []
    count = len(tree.flatten(context.outputs))
    return names if len(names) == count else [f"output {i}" for i in range(count)]


def _last_layer(context, tensor):
    """The innermost layer that emitted a tensor, out of its wrapper."""
    for call in context.calls:
        if any(made is tensor for made in tree.flatten(call.outputs)):
            layer = call.layer
            while isinstance(layer, keras.layers.Wrapper):
                layer = layer.layer
            return layer
    return None


def metrics(context):
    """Pairs of an output and a metric, as the user gave it, that belongs to it."""
    found = of_model(context)
    for given in _keras.user_metrics(context.model):
        if isinstance(given, dict):
            named = [(m, name) for name, m in given.items()]
        elif isinstance(given, (list, tuple)) and len(given) == len(found) > 1:
            names = getattr(context.model, "output_names", None)
            named = list(zip(given, names or [], strict=False))
        else:
            named = [(given, None)]
        for part, name in named:
            belongs = [o for o in found if len(found) == 1 or o.name == name]
            if len(belongs) == 1:
                yield from ((belongs[0], metric) for metric in tree.flatten(part))


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
    """A loss on arrays, as a float."""
    with keras.StatelessScope([]):
        y, pred = (ops.convert_to_tensor(a, "float32") for a in (y, pred))
        return float(ops.convert_to_numpy(loss(y, pred)))
