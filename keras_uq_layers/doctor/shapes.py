"""Checks of shapes, and of heads against losses, metrics and later layers."""

import re

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.gradients import to_numpy
from keras_uq_layers.doctor.loss import crossentropy
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.losses import FamilyLoss

_ROWS = 3  # for the pairs of targets and predictions
_AFTER_HEAD = (keras.layers.Identity, keras.layers.Reshape, keras.layers.InputLayer)


def call_failed(context):
    if context.error is None:
        return
    if context.outputs is not None and (
        any(loss_on_params(context)) or any(crossentropy(context))
    ):
        return  # PyTorch checks the targets of a crossentropy itself
    message = str(context.error).strip().split("\n\nArguments received")[0]
    # Without the names that TensorFlow gives to its kernels.
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\x1b\[\d*m", "", message, flags=re.DOTALL)
    message = f"{type(context.error).__name__}: {' '.join(message.split())[:400]}"
    if context.outputs is None:
        last = context.calls[-1].path if context.calls else None
        yield Finding(
            "call-failed",
            context.model.name,
            f"The model cannot be called on this batch. {message}",
            "Compare the shape of x with what the model expects"
            + (f"; the last layer that succeeded is {last}." if last else "."),
        )
        return
    shapes = [outputs.shape(t) for t in tree.flatten(context.outputs)]
    given = [outputs.shape(t) for t in tree.flatten(context.y) if t is not None]
    yield Finding(
        "wrong-outputs",
        "y",
        f"The loss fails for outputs of shape {_listed(shapes)} and y of shape "
        f"{_listed(given)}. {message}",
        "Give y one entry for each output of the model, in the same order and of the "
        "shape that the loss expects.",
    )


def _listed(shapes):
    return ", ".join(map(str, shapes)) or "nothing"


def wrong_outputs(context):
    for output in outputs.of_model(context):
        if output.target is None or not output.averages or output.head:
            continue
        y, pred = outputs.shape(output.target), outputs.shape(output.tensor)
        trimmed = [s[:-1] if s and s[-1] == 1 else s for s in (y, pred)]
        if y == pred or trimmed[0] == trimmed[1] or y == trimmed[1] or pred == y[:-1]:
            continue
        yield Finding(
            "wrong-outputs",
            output.name,
            f"y of shape {y} is compared with an output of shape {pred}: "
            f"'{output.function}' broadcasts them in silence to "
            f"{np.broadcast_shapes(y, pred)}.",
            f"Make the last layer emit {y[-1] if len(y) > 1 else 1} output(s), or "
            "give y the shape of the output; a layer before the last that keeps or "
            "drops the time axis (`return_sequences`) changes it as well.",
        )


def shapes_broadcast(context):
    """A loss on some rows must be the mean of the loss on each of them."""
    for output in outputs.of_model(context):
        if not output.custom or output.target is None or context.rows < _ROWS:
            continue
        y, pred = to_numpy(output.target), to_numpy(output.tensor)
        rows = np.unique(y.reshape(len(y), -1), axis=0, return_index=True)[1][:_ROWS]
        if len(rows) < _ROWS:
            continue
        y, pred = y[rows], pred[rows]
        together = outputs.value(output.loss, y, pred)
        each = np.arange(_ROWS)
        single = [
            outputs.value(output.loss, y[i : i + 1], pred[i : i + 1]) for i in each
        ]
        pairs = [
            outputs.value(output.loss, y[i : i + 1], pred[j : j + 1])
            for i in each
            for j in each
        ]
        if together is None or None in single or None in pairs:
            continue
        close = {"rtol": 1e-4, "atol": 1e-6}
        if np.isclose(together, np.mean(single), **close):
            continue
        if np.isclose(together, np.mean(pairs), **close):
            yield Finding(
                "shapes-broadcast",
                output.name,
                f"The loss of {_ROWS} rows is {together:.4g}, the mean over all "
                f"{_ROWS} x {_ROWS} pairs of a target and a prediction; the mean over "
                f"the rows is {np.mean(single):.4g}. y has shape "
                f"{outputs.shape(output.target)}, the output "
                f"{outputs.shape(output.tensor)}.",
                "Inside the loss (B,) meets (B, 1), which broadcasts to (B, B): take "
                "columns as `y_pred[:, :1]`, not `y_pred[:, 0]`, or reshape y the "
                "same way.",
            )


def family_mismatch(context):
    for output in outputs.of_model(context):
        if output.head is None or not isinstance(output.loss, FamilyLoss):
            continue
        made, read = output.head.family, output.loss.family
        if made.name != read.name:
            yield Finding(
                "family-mismatch",
                output.head.path,
                f"The head emits a {made.name!r} ({', '.join(made.parameters)}), the "
                f"loss reads a {read.name!r} ({', '.join(read.parameters)}).",
                f"Give both the same family: `{type(output.loss).__name__}"
                f"(family={made.name!r})`, or the head `family={read.name!r}`.",
            )


def _blocks(head):
    return " | ".join(head.family.parameters)


def loss_on_params(context):
    for output in outputs.of_model(context):
        if output.head is None or isinstance(output.head.family, ClassFamily):
            continue
        if output.function in outputs.REGRESSION:
            yield Finding(
                "loss-on-params",
                output.head.path,
                f"'{output.function}' compares y with all "
                f"{outputs.shape(output.tensor)[-1]} params of the head, "
                f"[{_blocks(output.head)}], not with the mean alone.",
                "Compile with the likelihood that the head stands for: "
                "`loss=uq.losses.NegativeLogLikelihood("
                f"{output.head.family.name!r})`.",
            )


def _metrics(context):
    """Pairs of a metric as the user gave it and the name of its output."""
    compiled = getattr(context.model, "_compile_metrics", None)
    if compiled is None:
        return
    for given in (compiled._user_metrics, compiled._user_weighted_metrics):
        if isinstance(given, dict):
            for name, part in given.items():
                yield from ((m, name) for m in tree.flatten(part))
        else:
            yield from ((metric, None) for metric in tree.flatten(given))


def metric_on_params(context):
    found = outputs.of_model(context)
    for metric, name in _metrics(context):
        belongs = [o for o in found if name in (None, o.name)]
        if len(belongs) != 1 or belongs[0].head is None:
            continue
        head = belongs[0].head
        if isinstance(head.family, ClassFamily):
            continue
        if isinstance(metric, str):
            metric = keras.metrics.get(metric)
        function = outputs.keras_function(metric)
        root = type(metric) is keras.metrics.RootMeanSquaredError
        if function in outputs.REGRESSION or root:
            function = function or "root_mean_squared_error"
            yield Finding(
                "metric-on-params",
                head.path,
                f"The metric '{function}' compares y with all params of the head, "
                f"[{_blocks(head)}]: it averages the error of the mean with the "
                "difference of y and a scale.",
                "Use a metric that reads the params, such as "
                "`uq.metrics.NegativeLogLikelihood()` or `uq.metrics.CRPS()`, or "
                "score `uq.predict(model, x).mean`.",
            )


def layer_after_head(context):
    made = {id(call.outputs): call for call in outputs.head_calls(context)}
    for call in context.calls:
        if not call.leaf or isinstance(call.layer, _AFTER_HEAD):
            continue
        learns = isinstance(call.layer, keras.layers.Layer) and call.layer.weights
        activation = getattr(call.layer, "activation", keras.activations.linear)
        acts = activation is not keras.activations.linear
        drops = isinstance(call.layer, keras.layers.Dropout)
        own = type(call.layer).__module__.split(".")[0] == "keras"
        if not own or not (learns or acts or drops):
            continue
        for tensor in tree.flatten((call.args, call.kwargs)):
            if id(tensor) in made and ops.is_tensor(tensor):
                head = made[id(tensor)]
                yield Finding(
                    "layer-after-head",
                    call.path,
                    f"This {type(call.layer).__name__} receives the params "
                    f"[{_blocks(head.layer)}] of {head.path} and mixes or changes "
                    "them: what it emits is no distribution any more.",
                    "Put the head last. To use a draw from it in later layers, put "
                    "`uq.NormalSampling()` in between.",
                )


CHECKS = [
    call_failed,
    wrong_outputs,
    shapes_broadcast,
    family_mismatch,
    loss_on_params,
    metric_on_params,
    layer_after_head,
]
