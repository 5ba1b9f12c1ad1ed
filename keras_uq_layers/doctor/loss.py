"""Checks of the loss: what it may be, and what it says of the model."""

import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.gradients import to_numpy
from keras_uq_layers.families import Normal
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.layers import NormalLikelihood
from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.losses import FamilyLoss
from keras_uq_layers.losses import NegativeLogLikelihood
from keras_uq_layers.losses import constant_normal_nll
from keras_uq_layers.metrics import FamilyMetric

_AT_FLOOR = 1.05
_SHARE = 0.5
_EXCESS = 1e4  # nats per output: targets more than 140 scales away


def crossentropy(context):
    """Targets that are no probabilities, and what is read as what it is not."""
    for output in outputs.of_model(context):
        for call in output.crossentropies[:1]:
            yield from _targets(call)
            yield from _read_otherwise(output, call.from_logits, "The cross entropy")
        if isinstance(output.loss, FamilyLoss):
            yield from _family_reads(output, output.loss)
    for output, metric in outputs.metrics(context):
        if isinstance(metric, FamilyMetric):
            yield from _family_reads(output, metric)


def _targets(call):
    if call.name != "binary_crossentropy":
        return
    y = to_numpy(call.target)
    outside = (y < 0) | (y > 1)
    if outside.any():
        yield Finding(
            "targets-not-probabilities",
            "y",
            f"Binary crossentropy is given targets from {y.min():.4g} to "
            f"{y.max():.4g}, {outside.mean():.0%} of them outside [0, 1]: it has "
            "no lower bound there and runs to minus infinity.",
            "For continuous targets use a density: end the model in "
            "`uq.ConstantVarianceHead(units)` or `uq.DistributionHead(units)` "
            "and compile with `uq.losses.NegativeLogLikelihood()`; or scale the "
            "targets to [0, 1].",
        )


def _family_reads(output, reader):
    """Of a loss or metric of this package whose family is one of classes."""
    if output.head is None and isinstance(reader.family, ClassFamily):
        name = type(reader).__name__
        yield from _read_otherwise(output, reader.family.from_logits, name)


def _read_otherwise(output, from_logits, reader):
    """Probabilities that are read as logits, or logits as probabilities."""
    if from_logits and output.probabilities:
        yield Finding(
            "probabilities-as-logits",
            output.path,
            f"{reader} takes the output as logits, and the last activation makes "
            "probabilities of them: a second softmax or sigmoid flattens them.",
            "Leave out the last activation, or say that they are probabilities: "
            "`from_logits=False` for Keras, "
            "`uq.families.Categorical(from_logits=False)` or `Bernoulli` here.",
        )
    values = to_numpy(output.tensor)
    outside = (values < 0) | (values > 1)
    if not from_logits and (output.probabilities is False or outside.any()):
        yield Finding(
            "logits-as-probabilities",
            output.path,
            f"{reader} takes the output as probabilities, and the last layer has no "
            f"activation: the outputs range from {values.min():.4g} to "
            f"{values.max():.4g}, {outside.mean():.0%} of them outside [0, 1].",
            "Say that they are logits (`from_logits=True`), or give the last layer "
            "`activation='softmax'`, for yes or no `'sigmoid'`.",
        )


def _reference(y):
    try:
        return constant_normal_nll(to_numpy(y))
    except ValueError:
        return None


def negative_loss(context):
    if context.loss is None or not context.loss < 0:
        return
    found = outputs.of_model(context)
    likelihoods = [o for o in found if isinstance(o.loss, NegativeLogLikelihood)]
    own = [c for c in context.calls if isinstance(c.layer, NormalLikelihood)]
    if not likelihoods and not own:
        # Of a loss that the user wrote, we only know that it may be one.
        custom = [o for o in found if o.custom]
        if not custom or custom[0].target is None:
            return
        likelihoods = custom
    if likelihoods:
        y = likelihoods[0].target
    else:
        y = tree.flatten((own[0].args, own[0].kwargs))[0]
    reference = _reference(y) if not _integers(y) else None
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


def _integers(y):
    y = to_numpy(y)
    return bool(np.all(y == np.round(y)))


def _scales(family, params):
    """The scale block of params, or None."""
    if "scale" not in family.parameters:
        return None
    try:
        parts = family.split(params)
    except ValueError:
        return None
    return to_numpy(parts[family.parameters.index("scale")])


def scale_at_floor(context):
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


def scale_not_positive(context):
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
    for call, params in outputs.latent_params(context):
        scale = _scales(Normal(), params)
        if scale is not None and (scale < 0).any():
            yield Finding(
                "log-variance-as-scale",
                call.path,
                f"{np.mean(scale < 0):.0%} of the scales that it receives are "
                f"negative, the smallest is {scale.min():.4g}: they look like "
                "log-variances.",
                "Its input is [loc | scale] with standard deviations: put "
                "`uq.DistributionHead(units)` before it in place of a `Dense` layer.",
            )


def log_variance_as_scale(context):
    """A layer whose draw is `loc + s * noise` where s may be negative."""
    for call in context.calls:
        layer = call.layer
        if not call.leaf or isinstance(layer, NormalSampling) or layer.weights:
            continue
        if _keras.is_keras(layer):
            continue
        split = _two_halves(call)
        if split is None:
            continue
        loc, scale, rebuild = split
        if not (scale < 0).any() or not np.any(scale):
            continue
        draws = [
            context.call_layer(call, rebuild(loc, factor * scale))
            for factor in (1.0, -1.0, 2.0, 0.0)
        ]
        if any(d.shape != loc.shape for d in draws):
            continue
        plus, minus, twice, none = draws
        size = np.abs(plus - loc).max()
        close = {"rtol": 1e-3, "atol": 1e-4 * size}
        linear = np.allclose(plus - loc, loc - minus, **close) and np.allclose(
            twice - loc, 2.0 * (plus - loc), **close
        )
        if size > 0 and linear and np.allclose(none, loc, **close):
            yield Finding(
                "log-variance-as-scale",
                call.path,
                f"The draw is loc + s * noise with an s that is negative for "
                f"{np.mean(scale < 0):.0%} of the entries, down to "
                f"{scale.min():.4g}: no standard deviation.",
                "A log-variance becomes a standard deviation by "
                "`ops.exp(0.5 * log_variance)`. Or use `uq.DistributionHead(units)` "
                "and `uq.NormalSampling()`.",
            )


def _two_halves(call):
    """What may be loc and scale among the inputs, and how to put them back."""
    tensors = [t for t in tree.flatten(call.args) if ops.is_tensor(t)]
    if not ops.is_tensor(call.outputs) or call.kwargs.get("mask") is not None:
        return None
    shape = outputs.shape(call.outputs)
    if len(tensors) == 2 and all(outputs.shape(t) == shape for t in tensors):
        loc, scale = map(to_numpy, tensors)
        return loc, scale, lambda a, b: tree.pack_sequence_as(call.args, [a, b])
    if len(tensors) == 1 and outputs.shape(tensors[0]) == (*shape[:-1], 2 * shape[-1]):
        loc, scale = np.split(to_numpy(tensors[0]), 2, axis=-1)
        return (
            loc,
            scale,
            lambda a, b: tree.pack_sequence_as(
                call.args, [np.concatenate([a, b], axis=-1)]
            ),
        )
    return None


def absolute_residual(context):
    """A loss of `[loc, log variance]` that grows like |y - loc|."""
    for output in outputs.of_model(context):
        if not output.custom or output.target is None:
            continue
        if outputs.shape(output.tensor)[1:] != (2,):
            continue
        if outputs.shape(output.target)[1:] not in ((), (1,)):
            continue
        y = np.zeros((1, *outputs.shape(output.target)[1:]))

        def at(residual, log_variance, column, loss=output.loss, y=y):
            pred = np.zeros((1, 2))
            pred[0, 1 - column] = log_variance
            return outputs.value(loss, y + residual, pred)

        for column in (0, 1):
            grown = [at(r, 0.0, column) for r in (0.0, 1.0, -2.0, 4.0)]
            slope = [at(0.0, s, column) for s in (0.0, 1.0, 3.0)]
            weighed = at(1.0, 2.0, column), at(0.0, 2.0, column)
            growth = np.subtract(grown[1:], grown[0])
            slope = np.subtract(slope[1:], slope[0])
            if not np.isfinite([*growth, *slope]).all() or growth[0] <= 0:
                continue
            absolute = np.allclose(growth / growth[0], [1, 2, 4], rtol=1e-2)
            half = np.allclose(slope, [0.5 * c for c in (1, 3)], rtol=1e-2)
            precision = (weighed[0] - weighed[1]) / growth[0]
            if absolute and half and np.isclose(precision, np.exp(-2.0), rtol=1e-2):
                yield Finding(
                    "absolute-residual",
                    output.name,
                    "The loss is that of a log-variance, yet a residual of 1, 2, 4 "
                    f"adds {growth[0]:.3g}, {growth[1]:.3g}, {growth[2]:.3g} to it: "
                    "it grows like |y - mean|, so that the fitted 'variance' is the "
                    "mean absolute error.",
                    "The normal likelihood has the square, without a root: "
                    "`0.5 * ops.exp(-s) * (y - mean)**2 + 0.5 * s`. Or use "
                    "`uq.DistributionHead(1)` with "
                    "`uq.losses.NegativeLogLikelihood()`.",
                )


def scale_far_too_small(context):
    if context.data_loss is None or not np.isfinite(context.data_loss):
        return
    for output in outputs.of_model(context):
        if not isinstance(output.loss, NegativeLogLikelihood) or not output.head:
            continue
        scale = _scales(output.head.family, output.tensor)
        if scale is None or output.target is None:
            continue
        reference = _reference(output.target)
        limit = _EXCESS * scale.shape[-1]
        if reference is None or context.data_loss < reference + limit:
            continue
        y = to_numpy(output.target)
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
