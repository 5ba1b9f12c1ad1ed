"""Checks of the compiled loss: its domain, its families, and its value."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import shape
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.doctor.outputs import Output
from keras_uq_layers.doctor.recorder import Call
from keras_uq_layers.doctor.recorder import Crossentropy
from keras_uq_layers.families import Family
from keras_uq_layers.families import Normal
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.layers import NormalLikelihood
from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.losses import NegativeLogLikelihood
from keras_uq_layers.losses import constant_normal_nll
from keras_uq_layers.numerics.dtypes import to_numpy

_AT_FLOOR = 1.05
_SHARE = 0.5
_EXCESS = 1e4  # nats per output: targets more than 140 scales away


def crossentropy(context: Context) -> Findings:
    """Cross entropies, of Keras or of a family, that misread targets or outputs."""
    for output in outputs.of_model(context):
        for call in output.crossentropies[:1]:
            yield from _targets(call)
            yield from _misread(output, call.from_logits, "The cross entropy")
    for output, reader in outputs.readers(context):
        if output.head is None and isinstance(reader.family, ClassFamily):
            family = outputs.family_read(output, reader)
            yield from _misread(output, family.from_logits, type(reader).__name__)


def _targets(call: Crossentropy) -> Findings:
    y = to_numpy(call.target)
    outside = (y < 0) | (y > 1)
    if call.name == "binary_crossentropy" and outside.any():
        yield Finding(
            "targets-not-probabilities",
            "y",
            f"Binary cross entropy is given targets from {y.min():.4g} to "
            f"{y.max():.4g}, {outside.mean():.0%} of them outside [0, 1]: it has "
            "no lower bound there and runs to minus infinity.",
            "For continuous targets use a density: end the model in "
            "`uq.ConstantVarianceHead(units)` or `uq.DistributionHead(units)` "
            "and compile with `uq.losses.NegativeLogLikelihood()`; or scale the "
            "targets to [0, 1].",
        )


def _misread(output: Output, from_logits: bool, reader: str) -> Findings:
    """Probabilities that are read as logits, or logits as probabilities."""
    values = to_numpy(output.tensor)
    outside = (values < 0) | (values > 1)
    if from_logits and output.probabilities:
        yield Finding(
            "probabilities-as-logits",
            output.path,
            f"{reader} takes the output as logits, but the last activation has made "
            "probabilities: a second softmax or sigmoid flattens them.",
            "Leave out the last activation, or say that the outputs are "
            "probabilities: `from_logits=False` for Keras, here "
            "`uq.families.Categorical(from_logits=False)` or `Bernoulli`.",
        )
    if not from_logits and (output.probabilities is False or outside.any()):
        yield Finding(
            "logits-as-probabilities",
            output.path,
            f"{reader} takes the outputs as probabilities, but the last layer does "
            f"not make any: the outputs range from {values.min():.4g} to "
            f"{values.max():.4g}, {outside.mean():.0%} of them outside [0, 1].",
            "Say that they are logits (`from_logits=True`), or give the last layer "
            "`activation='softmax'`, for yes or no `'sigmoid'`.",
        )


def _reference(y: Array | None) -> float | None:
    """The loss of the best constant normal, or None where there is none."""
    if y is None:
        return None
    try:
        return constant_normal_nll(y)
    except ValueError:
        return None


def negative_loss(context: Context) -> Findings:
    if context.loss is None or not context.loss < 0:
        return
    found = outputs.of_model(context)
    likelihoods = [o for o in found if isinstance(o.loss, NegativeLogLikelihood)]
    own = [c for c in context.calls if isinstance(c.layer, NormalLikelihood)]
    if not likelihoods and not own:
        # A loss of the user's own may be a likelihood.
        likelihoods = [o for o in found if o.custom and o.target is not None][:1]
        if not likelihoods:
            return
    if likelihoods:
        y = likelihoods[0].numbers
    else:
        y = to_numpy(tree.flatten((own[0].args, own[0].kwargs))[0])
    counts = y is not None and np.all(y == np.round(y))
    reference = None if counts else _reference(y)
    beside = (
        f" On these targets the best constant normal has {reference:.4g} nats."
        if reference is not None
        else ""
    )
    yield Finding(
        "negative-loss",
        "loss",
        f"The loss is {context.loss:.4g}.{beside}",
        "A negative log density is negative wherever the density exceeds 1, which it "
        "does for a standard deviation below 0.24: that is right. Judge the value "
        "against `uq.losses.constant_normal_nll(y)`, not against 0.",
        problem=False,
    )


def _scales(family: Family, params: Tensor) -> Array | None:
    """The scale block of params, or None where there is none."""
    if "scale" not in family.spread:
        return None
    try:
        parts = family.split(params)
    except ValueError:
        return None  # `wrong-outputs` says so
    return to_numpy(parts[family.parameters.index("scale")])


def scale_at_floor(context: Context) -> Findings:
    for call in outputs.head_calls(context):
        head = call.layer
        scale = _scales(head.family, call.outputs)
        trained = getattr(head, "trainable_scale", True)
        if scale is None or not trained or not np.isfinite(scale).all():
            continue
        unit = getattr(head, "target_scale", None)
        floor = head.scale_floor * (1.0 if unit is None else to_numpy(unit))
        share = float(np.mean(scale <= _AT_FLOOR * floor))
        if share >= _SHARE:
            yield Finding(
                "scale-at-floor",
                head.path,
                f"{share:.0%} of the scales are at the floor of "
                f"{np.min(floor):.4g}, the rest up to {scale.max():.4g}.",
                "Without the floor the loss would run to minus infinity. Look for "
                "targets that x determines exactly (repeated values, a leak of y "
                "into x) or for overfitting: a validation loss, "
                "`ConstantVarianceHead`, or a larger `scale_floor`.",
            )
    for call in context.calls:
        if isinstance(call.layer, NormalLikelihood):
            scale = to_numpy(call.layer.scale)
            if (scale <= _AT_FLOOR * call.layer.scale_floor).any():
                yield Finding(
                    "scale-at-floor",
                    call.path,
                    f"The scale is {scale.min():.4g}, its floor "
                    f"{call.layer.scale_floor:.4g}.",
                    "Start with a scale of the size of the data: "
                    "`scale_initializer=keras.initializers.Constant(y.std())`.",
                )


def scale_not_positive(context: Context) -> Findings:
    for output in outputs.of_model(context):
        if output.family is None or output.head is not None:
            continue
        scale = _scales(output.family, output.tensor)
        if scale is not None and (scale <= 0).any():
            yield Finding(
                "scale-not-positive",
                output.name,
                f"{np.mean(scale <= 0):.0%} of the scales are not positive, the "
                f"smallest is {scale.min():.4g}: the loss reads the second half of "
                "the output as standard deviations.",
                "End the model in `uq.DistributionHead(units)`, which emits positive "
                "scales, in place of a `Dense` layer.",
            )


def log_variance_as_scale(context: Context) -> Findings:
    """Draws `loc + s * noise` where `s` is negative in places."""
    for call, params in outputs.latent_params(context):
        scale = _scales(Normal(), params)
        if scale is not None and (scale < 0).any():
            yield _log_variance(call, scale)
    for call in context.calls:
        own = not isinstance(call.layer, NormalSampling) and not call.layer.weights
        if call.leaf and own and not _keras.is_keras(call.layer):
            halves = _halves(call)
            if halves is not None and (halves[1] < 0).any():
                loc, s, rebuild = halves
                # Only loc + s * noise is mirrored at loc with s.
                plus, minus = (
                    context.call_layer(call, rebuild(loc, sign * s)) - loc
                    for sign in (1.0, -1.0)
                )
                other = context.call_layer(call, rebuild(loc, s), draw=1) - loc
                size = np.abs(plus).max(initial=0)
                mirrored = np.allclose(plus, -minus, rtol=1e-3, atol=1e-4 * size)
                if mirrored and not np.allclose(plus, other, atol=1e-3 * size):
                    yield _log_variance(call, s)


def _halves(call: Call) -> tuple[Array, Array, Callable[[Array, Array], Any]] | None:
    """What may be loc and scale among the inputs, and how to put them back."""
    tensors = [t for t in tree.flatten(call.args) if ops.is_tensor(t)]
    if not ops.is_tensor(call.outputs) or call.kwargs.get("mask") is not None:
        return None
    made, given = shape(call.outputs), [shape(t) for t in tensors]
    if given == [made, made]:
        loc, s = map(to_numpy, tensors)
        return loc, s, lambda a, b: tree.pack_sequence_as(call.args, [a, b])
    if given == [(*made[:-1], 2 * made[-1])]:
        loc, s = np.split(to_numpy(tensors[0]), 2, axis=-1)

        def joined(a, b):
            both = np.concatenate([a, b], axis=-1)
            return tree.pack_sequence_as(call.args, [both])

        return loc, s, joined
    return None


def _log_variance(call: Call, scale: Array) -> Finding:
    return Finding(
        "log-variance-as-scale",
        call.path,
        f"The draw is loc + s * noise with an s that is negative for "
        f"{np.mean(scale < 0):.0%} of the entries, down to {scale.min():.4g}: no "
        "standard deviation.",
        "A log-variance becomes a standard deviation by `ops.exp(0.5 * log_variance)`. "
        "Or put `uq.DistributionHead(units)` before `uq.NormalSampling()`.",
    )


def absolute_residual(context: Context) -> Findings:
    """A loss of `[mean, log variance]` that grows like |y - mean|."""
    for output in outputs.of_model(context):
        if not output.custom or output.target is None:
            continue
        columns = shape(output.target)[1:]
        if shape(output.tensor)[1:] != (2,) or columns not in ((), (1,)):
            continue
        for mean in (0, 1):
            points = [(0.0, 0.0), (1.0, 0.0), (4.0, 0.0), (0.0, 2.0)]
            zero, one, four, wide = (
                outputs.value(
                    output.loss,
                    np.full((1, *columns), y),
                    np.array([[0.0, s] if mean == 0 else [s, 0.0]]),
                )
                for y, s in points
            )
            # A normal adds half of the log-variance; a Laplace all of its log-scale.
            half = np.isclose(wide - zero, 1.0, rtol=1e-2)
            growth = four - zero
            linear = np.isclose(growth, 4.0 * (one - zero), rtol=1e-2)
            if half and linear and growth > 0:
                yield Finding(
                    "absolute-residual",
                    output.name,
                    f"The loss is that of a log-variance, yet a residual of 1 adds "
                    f"{one - zero:.3g} to it and a residual of 4 adds {growth:.3g}: it "
                    "grows like |y - mean|, so that the fitted 'variance' is the mean "
                    "absolute error.",
                    "The normal likelihood has the square, without a root: "
                    "`0.5 * ops.exp(-s) * (y - mean)**2 + 0.5 * s`. Or use "
                    "`uq.DistributionHead(1)` with "
                    "`uq.losses.NegativeLogLikelihood()`.",
                )


def scale_far_too_small(context: Context) -> Findings:
    if context.data_loss is None or not np.isfinite(context.data_loss):
        return
    for output in outputs.of_model(context):
        if not isinstance(output.loss, NegativeLogLikelihood) or not output.head:
            continue
        scale = _scales(output.head.family, output.tensor)
        y = output.numbers
        reference = _reference(y)
        if scale is None or y is None or reference is None:
            continue
        if context.data_loss > reference + _EXCESS * scale.shape[-1]:
            yield Finding(
                "scale-far-too-small",
                output.head.path,
                f"The loss is {context.data_loss:.4g} nats, that of the best constant "
                f"normal {reference:.4g}: y has mean {y.mean():.4g} and standard "
                f"deviation {y.std():.4g}, the predicted scales a median of "
                f"{np.median(scale):.4g}.",
                "Tell the head the unit of y before `fit`: `head.adapt(y_train)`; and "
                "look for outputs that explode on the way to it.",
            )


CHECKS = [
    crossentropy,
    negative_loss,
    scale_at_floor,
    scale_not_positive,
    log_variance_as_scale,
    absolute_residual,
    scale_far_too_small,
]
