"""Checks of outputs, loss and gradients: missing, zero, not finite."""

from collections.abc import Iterator

import keras
import numpy as np

from keras_uq_layers._typing import Array
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import finite
from keras_uq_layers.doctor.context import floats_in
from keras_uq_layers.doctor.data import data_not_finite
from keras_uq_layers.doctor.data import targets_outside_support
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.doctor.loss import scale_not_positive
from keras_uq_layers.doctor.recorder import Call
from keras_uq_layers.numerics.dtypes import to_numpy


def _count(array: Array) -> str:
    return (
        f"{np.isnan(array).sum()} NaN and {np.isinf(array).sum()} inf of "
        f"{array.size} values"
    )


def _bad_weights(context: Context) -> Iterator[tuple[keras.Variable, Array]]:
    for variable in context.model.weights:
        array = to_numpy(variable)
        if not finite(array):
            yield variable, array


def weight_not_finite(context: Context) -> Findings:
    found = list(_bad_weights(context))
    if found:
        variable, array = found[0]
        yield Finding(
            "weight-not-finite",
            variable.path,
            f"{_count(array)}, and {len(found)} of {len(context.model.weights)} "
            "weights are not finite.",
            "An earlier step broke the model: it cannot recover. Build it again and "
            "train with `uq.callbacks.Doctor()`, which stops at the first bad step.",
        )


def _bad_outputs(context: Context) -> Iterator[tuple[Call, Array]]:
    for call in context.calls:
        for array in floats_in(call.outputs):
            if not finite(array):
                yield call, array


def _explained(context: Context) -> bool:
    """Whether data or weights explain all that is not finite."""
    checks = data_not_finite, targets_outside_support, _bad_weights
    return any(any(check(context)) for check in checks)


def output_not_finite(context: Context) -> Findings:
    if _explained(context):
        return
    found = list(_bad_outputs(context))
    if found:
        call, array = found[0]
        given = [np.abs(a).max(initial=0) for a in floats_in((call.args, call.kwargs))]
        largest = f" from inputs of up to {max(given):.3g}" if given else ""
        yield Finding(
            "output-not-finite",
            call.path,
            f"The output of this {type(call.layer).__name__}, the first in order of "
            f"execution, has {_count(array)}{largest}.",
            "Look for a logarithm, root, power, division or exponential of a value "
            "out of range: make the argument safe first, then choose with "
            "`ops.where`; half precision overflows at 65504.",
        )


def loss_not_finite(context: Context) -> Findings:
    if context.loss is None or np.isfinite(context.loss):
        return
    if _explained(context) or any(_bad_outputs(context)):
        return
    if any(scale_not_positive(context)):
        return
    sizes = [np.abs(a).max(initial=0) for a in floats_in(context.outputs)]
    culprit = next((a for a in context.added if not np.isfinite(a.value)), None)
    yield Finding(
        "loss-not-finite",
        culprit.path if culprit else "loss",
        f"The loss is {context.loss}, though data and outputs are finite (outputs of "
        f"up to {max(sizes, default=0):.3g}).",
        "The term that this layer adds is at fault."
        if culprit
        else "Look for a logarithm of 0 or a division by 0 in the loss; a density "
        "belongs there as a log density (`uq.losses.NegativeLogLikelihood`), never "
        "as the logarithm of a density that underflows.",
    )


def _trains_later(context: Context, variable: keras.Variable) -> bool:
    """Whether a later weight of zeros, which learns first, stops the gradient."""
    return any(
        other is not variable
        and len(other.shape) > 0
        and not np.any(to_numpy(other))
        and not str(other.name).startswith(("bias", "beta", "raw", "recurrent_bias"))
        and gradient is not None
        and np.any(gradient)
        for other, gradient in context.gradients
    )


def no_gradient(context: Context) -> Findings:
    missing = [v for v, gradient in context.gradients if gradient is None]
    for variable in missing:
        yield Finding(
            "no-gradient",
            variable.path,
            "The loss does not depend on this weight: its gradient is None.",
            "Use the weight itself in `call`, in the value that is returned: a "
            "weight that is read in `build` or `__init__`, converted to NumPy, or "
            "used in a condition alone, has left the graph. If it is not meant to "
            "be trained, set `trainable=False`.",
        )


def no_trainable_weights(context: Context) -> Findings:
    model = context.model
    if context.loss is not None and not model.trainable_variables:
        yield Finding(
            "no-trainable-weights",
            model.name,
            f"None of the {len(model.weights)} weights is trainable: `fit` changes "
            "nothing.",
            "Set `trainable = True` on the model or on the layers to train, and "
            "compile again.",
        )


def gradient_failed(context: Context) -> Findings:
    if not context.gradients and context.gradient_error is not None:
        error = context.gradient_error
        message = " ".join(str(error).split())[:300]
        yield Finding(
            "gradient-failed",
            context.model.name,
            f"The model can be called, but not differentiated. "
            f"{type(error).__name__}: {message}",
            "Compute with `keras.ops` alone from the inputs to the loss: `float`, "
            "`bool` and NumPy need values that a traced tensor does not have.",
        )


def zero_gradient(context: Context) -> Findings:
    by_layer: dict[int, list[tuple[keras.Variable, Array]]] = {}
    for variable, gradient in context.gradients:
        if gradient is not None:
            layer = context.owners.get(id(variable))
            by_layer.setdefault(id(layer), []).append((variable, gradient))
    for found in by_layer.values():
        if any(np.any(g) or not finite(g) for _, g in found):
            continue
        variable = found[0][0]
        if _trains_later(context, variable):
            continue
        yield Finding(
            "zero-gradient",
            variable.path.rsplit("/", 1)[0],
            f"The gradient of all {len(found)} weights of this layer "
            f"({', '.join(v.name for v, _ in found)}) is exactly 0 on "
            f"{context.rows} rows.",
            "Look after this layer for units that are all inactive (ReLU), for "
            "`ops.clip`, rounding, a comparison or `ops.stop_gradient`: none of them "
            "passes a gradient. A density that is clipped or underflows has none "
            "either: train on its logarithm.",
        )


def gradient_not_finite(context: Context) -> Findings:
    if _explained(context) or any(_bad_outputs(context)):
        return
    if context.loss is None or not np.isfinite(context.loss):
        return
    bad = [(v, g) for v, g in context.gradients if g is not None and not finite(g)]
    if not bad:
        return
    where, what = _origin(context, bad)
    variable, gradient = bad[-1]
    yield Finding(
        "gradient-not-finite",
        where,
        f"The loss is finite ({context.loss:.4g}), yet its gradient turns NaN or inf "
        f"in {what}: {len(bad)} of {len(context.gradients)} weights are hit, "
        f"{variable.path} with {_count(gradient)}.",
        "`ops.where` does not stop the NaN of the branch that was not taken: replace "
        "the dangerous argument by a harmless one first, then compute, then choose. "
        "A root has an infinite slope at 0, a norm none.",
    )


def _origin(
    context: Context, bad: list[tuple[keras.Variable, Array]]
) -> tuple[str, str]:
    """Where, on the way back from the loss, the gradient turns non-finite."""
    gradients = context.output_gradients
    numbers = sorted(gradients)
    hit = [i for i, g in gradients.items() if g is not None and not finite(g)]
    after = [i for i in numbers if not hit or i > max(hit)]
    owners = {id(context.owners.get(id(v))) for v, _ in bad}
    own = [i for i in after if id(context.calls[i].layer) in owners]
    if own or after:
        call = context.calls[own[-1] if own else after[0]]
        return call.path, f"this {type(call.layer).__name__}"
    return "loss", "the loss itself"


CHECKS = [
    weight_not_finite,
    output_not_finite,
    loss_not_finite,
    no_trainable_weights,
    gradient_failed,
    no_gradient,
    zero_gradient,
    gradient_not_finite,
]
