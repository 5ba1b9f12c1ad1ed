"""Checks of shapes, and of heads against losses, metrics and later layers."""

import re

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import shape
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.doctor.loss import crossentropy
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics.dtypes import to_numpy

_ROWS = 3  # for the pairs of targets and predictions
_AFTER_HEAD = (keras.layers.Identity, keras.layers.Reshape, keras.layers.InputLayer)


def call_failed(context: Context) -> Findings:
    """What the model or the loss raised, where no other check explains it."""
    if context.error is None:
        return
    explained = (loss_on_params, crossentropy, family_mismatch, no_family)
    if any(any(check(context)) for check in explained):
        return
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
    yield Finding(
        "wrong-outputs",
        "y",
        f"The loss fails for outputs of shape {_shapes(context.outputs)} and y of "
        f"shape {_shapes(context.y)}. {message}",
        "Give y one entry for each output of the model, in the same order and of the "
        "shape that the loss expects.",
    )


def _shapes(structure) -> str:
    found = [str(shape(t)) for t in tree.flatten(structure) if t is not None]
    return ", ".join(found) or "nothing"


def wrong_outputs(context: Context) -> Findings:
    for output in outputs.of_model(context):
        if output.target is None or not output.averages or output.head:
            continue
        y, pred = shape(output.target), shape(output.tensor)
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


def shapes_broadcast(context: Context) -> Findings:
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
        pairs = np.array(
            [
                [outputs.value(output.loss, y[[i]], pred[[j]]) for j in range(_ROWS)]
                for i in range(_ROWS)
            ]
        )
        single = pairs.diagonal().mean()
        all_pairs, each_row = (
            np.isclose(together, mean, rtol=1e-4, atol=1e-6)
            for mean in (pairs.mean(), single)
        )
        if all_pairs and not each_row:
            yield Finding(
                "shapes-broadcast",
                output.name,
                f"The loss of {_ROWS} rows is {together:.4g}, the mean over all "
                f"{_ROWS} x {_ROWS} pairs of a target and a prediction; the mean over "
                f"the rows is {single:.4g}. y has shape {shape(output.target)}, the "
                f"output {shape(output.tensor)}.",
                "Inside the loss (B,) meets (B, 1), which broadcasts to (B, B): take "
                "columns as `y_pred[:, :1]`, not `y_pred[:, 0]`, or reshape y the "
                "same way.",
            )


def family_mismatch(context: Context) -> Findings:
    for output, reader in outputs.readers(context):
        made, read = output.family, reader.family
        if made is None or read is None or made == read:
            continue
        if reader.get_config().get("family") == made.name:
            continue  # A name stands for the head's own family of that name.
        maker = "loss reads" if output.noted_family is None else "head emits"
        yield Finding(
            "family-mismatch",
            output.path,
            f"The {maker} {made!r}, {type(reader).__name__} reads {read!r}.",
            "Give both the same family. A loss or metric without a `family` takes that "
            "of the head.",
        )


def no_family(context: Context) -> Findings:
    for output, reader in outputs.readers(context):
        if output.noted_family is None and reader.family is None:
            yield Finding(
                "no-family",
                output.path,
                f"{type(reader).__name__} has no family, and this output, which does "
                "not come directly from a head, has none either.",
                "End the model in `uq.DistributionHead(units)`, or name the family of "
                f"the output, such as `{type(reader).__name__}('normal')`.",
            )
            return


def _blocks(head: Head) -> str:
    return " | ".join(head.family.parameters)


def loss_on_params(context: Context) -> Findings:
    for output in outputs.of_model(context):
        if output.head is None or isinstance(output.head.family, ClassFamily):
            continue
        if output.function in outputs.REGRESSION:
            yield Finding(
                "loss-on-params",
                output.head.path,
                f"'{output.function}' compares y with all "
                f"{shape(output.tensor)[-1]} params of the head, "
                f"[{_blocks(output.head)}], not with the mean alone.",
                "Compile with the likelihood that the head stands for: "
                "`loss=uq.losses.NegativeLogLikelihood()`.",
            )


def metric_on_params(context: Context) -> Findings:
    for output, metric in outputs.metrics(context):
        head = output.head
        if head is None or isinstance(head.family, ClassFamily):
            continue
        if isinstance(metric, str):
            metric = keras.metrics.get(metric)
        function = outputs.keras_function(metric)
        if type(metric) is keras.metrics.RootMeanSquaredError:
            function = "root_mean_squared_error"
        elif function not in outputs.REGRESSION:
            continue
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


def accuracy_of_logits(context: Context) -> Findings:
    for output, metric in outputs.metrics(context):
        named = metric in ("accuracy", "acc", "binary_accuracy")
        binary = named or isinstance(metric, keras.metrics.BinaryAccuracy)
        if binary and output.bernoulli_logits:
            logits = to_numpy(output.tensor)
            between = np.mean((logits > 0.0) & (logits <= 0.5))
            yield Finding(
                "accuracy-of-logits",
                output.path,
                "This metric compares the output with 0.5, and the output is a logit: "
                f"the border between the classes is 0, and {between:.0%} of the "
                "logits in the batch lie in between.",
                "Use `uq.metrics.Accuracy()` after a head, "
                "`uq.metrics.Accuracy('bernoulli')` otherwise.",
            )


def layer_after_head(context: Context) -> Findings:
    made = {id(call.outputs): call for call in outputs.head_calls(context)}
    for call in context.calls:
        if not call.leaf or isinstance(call.layer, _AFTER_HEAD):
            continue
        activation = getattr(call.layer, "activation", keras.activations.linear)
        changes = (
            call.layer.weights
            or activation is not keras.activations.linear
            or isinstance(call.layer, keras.layers.Dropout)
        )
        if not changes or not _keras.is_keras(call.layer):
            continue
        for tensor in tree.flatten((call.args, call.kwargs)):
            if id(tensor) in made and ops.is_tensor(tensor):
                head = made[id(tensor)]
                yield Finding(
                    "layer-after-head",
                    call.path,
                    f"This {type(call.layer).__name__} receives the params "
                    f"[{_blocks(head.layer)}] of {head.path} and mixes or changes "
                    "them: its output is no distribution any more.",
                    "Put the head last. To use a draw from it in later layers, put "
                    "`uq.NormalSampling()` in between.",
                )


CHECKS = [
    call_failed,
    wrong_outputs,
    shapes_broadcast,
    family_mismatch,
    no_family,
    loss_on_params,
    metric_on_params,
    accuracy_of_logits,
    layer_after_head,
]
