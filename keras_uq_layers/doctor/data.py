"""Checks of the data, and of the first layers that receive it."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import finite
from keras_uq_layers.doctor.context import floats_in
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.families import Family
from keras_uq_layers.losses import FamilyLoss
from keras_uq_layers.numerics.dtypes import to_numpy

_BOUNDED = (keras.activations.tanh, keras.activations.sigmoid)
_SHARE = 0.6
_LARGE_INPUT = 5.0


def data_not_finite(context: Context) -> Findings:
    named = {"x": context.x, "y": context.y, "sample_weight": context.sample_weight}
    for name, data in named.items():
        for array in floats_in(data):
            bad = ~np.isfinite(array)
            if name == "y" and bad.any() and _may_be_infinite(context):
                bad = np.isnan(array)
            if bad.any():
                rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
                yield Finding(
                    "data-not-finite",
                    name,
                    f"{np.isnan(array).sum()} NaN and {np.isinf(array).sum()} inf of "
                    f"{array.size} values, in {len(rows)} of {len(array)} rows; the "
                    f"first is row {rows[0]}.",
                    "Repair or leave out these rows before training: "
                    f"`np.isfinite({name})` finds them. One such value makes the "
                    "loss, and after one step every weight, NaN.",
                )


def _families(context: Context) -> Iterator[tuple[outputs.Output, Family]]:
    """Outputs that a loss of this package reads, and the family that reads them."""
    for output in outputs.of_model(context):
        if isinstance(output.loss, FamilyLoss) and output.target is not None:
            family = outputs.family_read(output, output.loss) or output.family
            if family is not None:
                yield output, family


def _may_be_infinite(context: Context) -> bool:
    """Whether the targets are intervals, whose ends may be open."""
    return any(
        _refusal(family, np.array([[-np.inf, np.inf]])) is None
        for _, family in _families(context)
    )


def _refusal(family: Family, y: Array, params: Tensor | None = None) -> str | None:
    """The error by which a family refuses targets, or None."""
    try:
        family.check_target(y, params)
    except ValueError as error:
        return str(error)
    return None


def targets_outside_support(context: Context) -> Findings:
    if any(finding.path == "y" for finding in data_not_finite(context)):
        return
    for output, family in _families(context):
        # A row of weight 0 may hold anything, and so may one that is masked out.
        mask = _keras.mask_of(output.compared)
        if context.sample_weight is not None or mask is not None:
            continue
        refusal = _refusal(family, to_numpy(output.target), output.compared)
        if refusal is not None:
            yield Finding(
                "targets-outside-support",
                "y",
                refusal,
                "`fit` does not look at targets: such a row makes the loss infinite, "
                "and has a gradient of 0. Repair or leave out these rows, or take a "
                "family that can produce them. `family.check_target(y_train)` looks "
                "at all targets before `fit`.",
            )


def saturated(context: Context) -> Findings:
    inputs = [a for a in floats_in(context.x) if a.size]
    if not inputs or not all(map(finite, inputs)) or context.outputs is None:
        return
    largest = max(float(np.quantile(np.abs(a), 0.95)) for a in inputs)
    if largest < _LARGE_INPUT:
        return
    last = {id(tensor) for tensor in tree.flatten(context.outputs)}
    for call in context.calls:
        activation = getattr(call.layer, "activation", None)
        tensor = call.outputs
        if activation not in _BOUNDED or not ops.is_tensor(tensor):
            continue
        if id(tensor) in last or isinstance(call.layer, keras.layers.RNN):
            continue
        values = to_numpy(tensor)
        low = -1.0 if activation is keras.activations.tanh else 0.0
        # The slope there is below 1 % of its largest value.
        margin = 0.005 if low else 0.0025
        share = float(np.mean((values > 1.0 - margin) | (values < low + margin)))
        if share > _SHARE:
            yield Finding(
                "saturated",
                call.path,
                f"{share:.0%} of the {activation.__name__} outputs are at their "
                f"bounds, where the gradient is almost 0; x has mean "
                f"{inputs[0].mean():.3g} and standard deviation "
                f"{inputs[0].std():.3g}, 95 % of it within {largest:.3g}.",
                "Standardise the inputs: put `keras.layers.Normalization()` first "
                "and call its `adapt(x_train)` before `fit`.",
            )
            return


CHECKS = [data_not_finite, targets_outside_support, saturated]
