"""All that is private in Keras, each behind a named function.

No other file of this package imports `keras.src` or reads an underscored
attribute of a Keras object. A new release of Keras is one file to check.
Each function says which version it was seen in.
"""

import contextlib
import contextvars
import functools
import inspect
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import FrameType
from types import ModuleType
from typing import Any

import keras

# `keras.layers.RNN` calls these methods of its cell when a sequence begins and
# ends, if the cell is an instance of this class. Seen in Keras 3.15.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell as DropoutRNNCell

from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor


def mask_of(tensor: Tensor) -> Tensor | None:
    """The mask that Keras attached to a tensor, or None. Seen in Keras 3.15.

    The mask is an attribute of the tensor or, where the backend's tensors take
    no attributes, in a table that only this accessor of Keras reads.
    """
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


def attach_mask(tensor: Tensor, mask: Tensor | None) -> None:
    """Attaches a mask to a tensor, as Keras's layers do. Seen in Keras 3.15."""
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask)


def attribute_of(tensor: Tensor, name: str) -> Any:
    """The attribute that `attach_attribute` set, or None. Seen in Keras 3.15."""
    from keras.src.backend.common.tensor_attributes import get_tensor_attr

    return get_tensor_attr(tensor, name)


def attach_attribute(tensor: Tensor, name: str, value: Any) -> None:
    """Sets an attribute of a tensor on any backend. Seen in Keras 3.15.

    JAX's tensors take no attributes. Keras keeps a table for them, from which
    an entry goes when its tensor does.
    """
    from keras.src.backend.common.tensor_attributes import set_tensor_attr

    set_tensor_attr(tensor, name, value)


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer or model and all layers in it, at any depth. Seen in Keras 3.15."""
    return list(layer._flatten_layers())


def history_of(
    tensor: keras.KerasTensor,
) -> tuple[Any, int, list[keras.KerasTensor]]:
    """The layer, model or operation that emits a tensor. Seen in Keras 3.15.

    Returns:
        The operation, the number of the tensor among its outputs, and the
        symbolic tensors with which it was called.
    """
    operation, node, index = tensor._keras_history
    return operation, index, operation._inbound_nodes[node].input_tensors


def set_direction(metric: keras.metrics.Metric, direction: str) -> None:
    """Tells callbacks whether a metric is better "up" or "down".

    `EarlyStopping` and its kin read this attribute where they are not given a
    `mode`; without it they refuse the metric. Seen in Keras 3.15.
    """
    metric._direction = direction


def reduce_values(
    values: Tensor,
    weights: Tensor | None,
    mask: Tensor | None,
    reduction: str | None,
    dtype: str,
) -> Tensor:
    """The reduction of `keras.losses.Loss`. Seen in Keras 3.15.

    The mean is over the positions that the mask lets count; weights do not
    change its divisor. A strategy of `tf.distribute` is taken into account.
    """
    from keras.src.losses.loss import reduce_weighted_values

    return reduce_weighted_values(values, weights, mask, reduction, dtype)


def in_symbolic_scope() -> bool:
    """Whether Keras computes shapes only, not values. Seen in Keras 3.15."""
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return in_symbolic_scope()


def export_format() -> str | None:
    """The format that `Model.export` is writing, or None. Seen in Keras 3.15.

    Keras has no hook for an export, so we look for `Model.export` on the call
    stack. If Keras renames its argument `format`, this raises a KeyError.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is keras.Model.export.__code__:
            return frame.f_locals["format"]
        frame = frame.f_back
    return None


def is_traced(tensor: Tensor) -> bool:
    """Whether a tensor stands in a graph that is being traced.

    Keras 3.15 has no such function for all backends. On PyTorch the question
    is whether the code that runs is being compiled or exported.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return not hasattr(tensor, "numpy")  # which eager tensors have
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    import torch

    return torch.compiler.is_compiling()


def seed_generators_of(layer: keras.layers.Layer) -> list[keras.random.SeedGenerator]:
    """The seed generators of a layer itself, in order. Seen in Keras 3.15.

    Keras tracks each generator that becomes an attribute of a layer, but not
    those of the layers inside.
    """
    return layer._seed_generators


def trainable_when_built(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights that were added as trainable, at any depth. Seen in Keras 3.15.

    Unlike `trainable_variables` this list holds the weights of frozen layers,
    too, and its order never changes.
    """
    return [v for part in all_layers(layer) for v in part._trainable_variables]


def without_autocast() -> AbstractContextManager:
    """A scope in which variables are read in their own dtype. Seen in Keras 3.15.

    While a layer is called, Keras casts its variables to the compute dtype.
    """
    from keras.src.backend.common.variables import AutocastScope

    return AutocastScope(None)


def is_default(method: Callable) -> bool:
    """Whether a layer inherits its `build` from Keras. Seen in Keras 3.15."""
    from keras.src.utils.python_utils import is_default

    return is_default(method)


def build_shapes(layer: keras.layers.Layer) -> dict[str, Any]:
    """The arguments that a layer was built with, by name. Seen in Keras 3.15."""
    return dict(layer._build_shapes_dict)


def is_keras(thing: Any) -> bool:
    """Whether an object, a class or a function is Keras's own."""
    return (getattr(thing, "__module__", None) or "").split(".")[0] == "keras"


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights of a layer without those of the layers inside of it.

    Seen in Keras 3.15.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def takes_training(layer: keras.layers.Layer) -> bool:
    """Whether `call` has an argument `training`. Seen in Keras 3.15."""
    return layer._call_has_training_arg


def user_loss(model: keras.Model) -> tuple[Any, Any]:
    """The `loss` and `loss_weights` given to `compile`. Seen in Keras 3.15."""
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None:
        return None, None
    return compiled._user_loss, compiled._user_loss_weights


def user_metrics(model: keras.Model) -> list[Any]:
    """The `metrics` and `weighted_metrics` given to `compile`, each as it is.

    Seen in Keras 3.15.
    """
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None:
        return []
    return [compiled._user_metrics, compiled._user_weighted_metrics]


def compiled_objects(model: keras.Model) -> list[Any]:
    """The optimizer, its schedule, losses and metrics given to `compile`.

    The schedule has no public name in Keras 3.15: `learning_rate` is its value.
    Without it, models with a schedule of one's own could not be converted.
    """
    optimizer = getattr(model, "optimizer", None)
    schedule = getattr(optimizer, "_learning_rate", None)
    given = keras.tree.flatten([user_loss(model), user_metrics(model), schedule])
    # The others are names and numbers.
    found = [thing for thing in given if callable(thing)]
    return found if optimizer is None else [*found, optimizer]


def make_compile_loss(
    loss: Any,
    weights: Any,
    output_names: list[str] | None,
    note: Callable[[keras.losses.Loss, Tensor, Tensor], None],
) -> Any:
    """The object that `compile` makes of a loss. Seen in Keras 3.15.

    Args:
        loss: As for `compile`.
        weights: `loss_weights`, as for `compile`.
        output_names: Those of the model, or None.
        note: Called with the loss, the targets and the predictions of each
            output before that loss: Keras matches them by name, by position or
            by both.
    """
    from keras.src.trainers.compile_utils import CompileLoss

    class NotedLoss(CompileLoss):
        _flat_losses: list[Any]

        def build(self, y_true: Any, y_pred: Any) -> None:
            super().build(y_true, y_pred)
            self._flat_losses: list[Any] = [
                part._replace(loss=self._noted(part.loss)) for part in self._flat_losses
            ]

        @staticmethod
        def _noted(loss: Any) -> Any:
            def noted(y_true: Tensor, y_pred: Tensor, weight: Tensor | None) -> Any:
                note(loss, y_true, y_pred)
                return loss(y_true, y_pred, weight)

            return noted

    return NotedLoss(loss, weights, output_names=output_names)


@contextlib.contextmanager
def compiled_with(model: keras.Model, compile_loss: Any) -> Iterator[None]:
    """Gives a model another compiled loss for a while. Seen in Keras 3.15."""
    before = model.__dict__.get("_compile_loss")
    model.__dict__["_compile_loss"] = compile_loss
    try:
        yield
    finally:
        model.__dict__["_compile_loss"] = before


def random_module() -> ModuleType:
    """The module whose `draw_seed` each draw of `keras.random` calls.

    Seen in Keras 3.15. If it moves, `uq.diagnose` sees no draws.
    """
    from keras.src import backend

    return backend.random


def tensorflow_seed(seed: Seed) -> Tensor:
    """The seed that `keras.random` gives to TensorFlow. Seen in Keras 3.15."""
    module = random_module()
    return module._cast_seed(module.draw_seed(seed))


def torch_device() -> str:
    """The device on which Keras makes tensors of PyTorch. Seen in Keras 3.15.

    It is "meta" while Keras computes shapes only.
    """
    from keras.src.backend.torch.core import get_device

    return get_device()


def crossentropies() -> Iterator[tuple[ModuleType, str]]:
    """Modules and names of the functions that all cross entropies end in.

    They have a public name, and one that Keras itself reads. Seen in Keras
    3.15. If they move, `uq.diagnose` sees no cross entropies.
    """
    from keras.src import ops as own_ops

    for name in (
        "binary_crossentropy",
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
    ):
        yield own_ops, name
        yield keras.ops, name


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer or model holds, one level deep. Seen in Keras 3.15."""
    return list(layer._layers)


def compiled_loss(model: keras.Model) -> Callable[..., Tensor] | None:
    """The loss that `compile` made, of y, the output and weights, or None.

    Keras 3.15 has no public name for it: `Trainer.compute_loss` adds the losses
    of the layers to it. Without it, an `Ensemble` cannot take the compiled loss
    of each member on its own.
    """
    return model._compile_loss


def is_probability(tensor: Tensor) -> bool:
    """Whether a tensor is the output of Keras's softmax or sigmoid.

    Keras notes the logits on it, for its own cross entropies. JAX's tracers take
    no such note: there the answer is False. Seen in Keras 3.15.
    """
    return logits_of(tensor) is not None


def logits_of(tensor: Tensor) -> Tensor | None:
    """The logits that Keras noted on the probabilities, or None. Seen in 3.15."""
    return getattr(tensor, "_keras_logits", None)


def attach_logits(tensor: Tensor, logits: Tensor) -> None:
    """Notes logits on probabilities, as Keras's softmax does. Seen in Keras 3.15."""
    with contextlib.suppress(AttributeError):  # tracers of JAX
        tensor._keras_logits = logits


def notes_probabilities_in_steps() -> bool:
    """Whether `is_probability` works in a compiled step: not on JAX.

    JAX's arrays take the note of Keras, its tracers do not. Seen in Keras 3.15.
    """
    return keras.backend.backend() != "jax"


def called_in_training(model: keras.Model) -> list[keras.layers.Layer]:
    """Random layers of Keras that a functional graph calls with `training=True`.

    Layers with such layers inside, such as nested models, are among them. Seen
    in Keras 3.15: each call of a layer is a node with its arguments.
    """
    return [operation for operation, _ in _calls_in_training(model)]


def call_at_inference(model: keras.Model) -> None:
    """Changes these calls to `training=False`, in the graph of the model.

    Seen in Keras 3.15: the graph runs with the arguments that its nodes hold.
    """
    for _, arguments in _calls_in_training(model):
        arguments["training"] = False


def _calls_in_training(
    model: keras.Model,
) -> list[tuple[keras.layers.Layer, dict[str, Any]]]:
    return [
        (operation, node.arguments.kwargs)
        for part in all_layers(model)
        for operation in getattr(part, "operations", [])
        for node in operation._inbound_nodes
        if _asks_for_training(operation, node.arguments.kwargs)
        and any(is_keras(p) and seed_generators_of(p) for p in all_layers(operation))
    ]


def _asks_for_training(operation: Any, arguments: dict[str, Any]) -> bool:
    """Whether the user called an operation of a graph with `training=True`.

    Keras 3.15 records default values, too. `RandomFlip` has `training=True` as
    its default, without a wish of the user.
    """
    if arguments.get("training") is not True:
        return False
    default = inspect.signature(operation.call).parameters.get("training")
    return default is None or default.default is not True


def seed_generators(model: keras.layers.Layer) -> list[keras.random.SeedGenerator]:
    """The global seed generator and all that layers of the model own. Seen in 3.15.

    `keras.random` draws from the global one where it is given no seed.
    """
    return [global_seed_generator(), *own_seed_generators(model)]


def own_seed_generators(
    layer: keras.layers.Layer,
) -> list[keras.random.SeedGenerator]:
    """All seed generators of a layer and of those inside it. Seen in Keras 3.15."""
    found = [g for part in all_layers(layer) for g in seed_generators_of(part)]
    return list({id(g): g for g in found}.values())


def global_seed_generator() -> keras.random.SeedGenerator:
    """The seed generator behind `seed=None`. Seen in Keras 3.15.

    It is made on first use. On JAX it must not be asked for in a trace.
    """
    from keras.src.random import seed_generator

    return seed_generator.global_seed_generator()


def is_graph_of_layers(model: keras.Model) -> bool:
    """Whether a model is a graph of layers, without a `call` of its own. Keras 3.15."""
    from keras.src.models.functional import Functional

    return type(model).call in (Functional.call, keras.Sequential.call)


def symbolic_inputs(model: keras.Model) -> Any:
    """The symbolic inputs of a built graph of layers, as it is called with them.

    A Sequential model is called with a tensor, whatever its `input` is. Keras 3.15.
    """
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def nodes_of(graph: keras.Function) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Operation, inputs and outputs of each call in a graph, in order. Seen in 3.15."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                yield node.operation, node.input_tensors, node.outputs


def run_graph(graph: keras.Function, inputs: Any) -> Any:
    """Runs a `keras.Function` on inputs of any batch size. Seen in Keras 3.15.

    Called directly, the function would insist on the batch size with which a
    Sequential model happened to be built.
    """
    return graph._run_through_graph(inputs)


def output_shapes(operation: Any) -> list[Shape]:
    """The shapes of all outputs of an operation in its graphs. Seen in 3.15."""
    return [t.shape for node in operation._inbound_nodes for t in node.outputs]


_keep_training = contextvars.ContextVar("keep_training", default=False)


@contextlib.contextmanager
def keeping_recorded_training() -> Iterator[None]:
    """Within it, `Dropout(0.5)(h, training=True)` stays random. Seen in Keras 3.15.

    A functional model records the `training=True` of such a call. Keras 3
    overrules it in `model(x, training=False)`, thus in `model.predict`; Keras 2
    did not. This replaces the function that overrules, once for the process;
    outside of the context it does what Keras does. Without it, a model of
    Monte Carlo dropout would be run as if it were certain.
    """
    from keras.src.models import functional

    if not hasattr(functional.operation_fn, "__wrapped__"):
        functional.operation_fn = _keeping(functional.operation_fn)
    token = _keep_training.set(True)
    try:
        yield
    finally:
        _keep_training.reset(token)


def _keeping(operation_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's function that overrules `training`, but for calls that say True."""

    @functools.wraps(operation_fn)
    def wrapper(operation: Any, **context: Any) -> Callable[..., Any]:
        overrule = operation_fn(operation, **context)

        def call(*args: Any, **kwargs: Any) -> Any:
            if _keep_training.get() and kwargs.get("training") is True:
                # Keras records the default value of an argument, too: a random
                # flip has `training=True` without anybody's wish.
                default = inspect.signature(operation.call).parameters.get("training")
                if default is None or default.default is not True:
                    return operation(*args, **kwargs)
            return overrule(*args, **kwargs)

        return call

    return wrapper
