"""Checks of the terms that layers add to the loss: their sign, size and number."""

import math
from collections.abc import Iterator

import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import AddedLoss
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import is_float
from keras_uq_layers.doctor.context import shape
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.doctor.recorder import Call
from keras_uq_layers.families import Normal
from keras_uq_layers.layers import NormalLikelihood
from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.layers._kl import KLRegularizer
from keras_uq_layers.numerics import normal_kl
from keras_uq_layers.numerics.dtypes import to_numpy

_DRAWS = 8
_LARGE = 100.0  # times the compiled loss
_COLLAPSED = 1e-3  # nats per weight or latent dimension
_WIDE = 8.0  # standard deviations of y; sound posteriors start below 0.1


def _of_weights(context: Context) -> list[AddedLoss]:
    """The KL terms of this package's variational layers."""
    return [a for a in context.added if isinstance(a.regularizer, KLRegularizer)]


def _by_layers(context: Context) -> list[AddedLoss]:
    """The terms of `add_loss` in `call`, without likelihoods."""
    return [
        a
        for a in context.added
        if not a.of_weights and not isinstance(a.layer, NormalLikelihood)
    ]


def _without_input(context: Context) -> list[AddedLoss]:
    """The terms of `add_loss` that do not depend on x."""
    terms = _by_layers(context)
    if not terms or context.rows < 2:
        return []
    half = tree.map_structure(lambda t: t[: context.rows // 2], context.x)
    found = context.added_with(half)
    if len(found) != len(terms):
        return []
    return [
        term
        for term, other in zip(terms, found, strict=True)
        if np.isclose(term.value, other, rtol=1e-5) and term.value != 0
    ]


def _positions(context: Context) -> float:
    """The number of scored positions, of the batch or of all training data."""
    axes = shape(tree.flatten(context.outputs)[0])[:-1] or (context.rows,)
    if context.member_axis is not None:
        axes = (axes[0], *axes[2:])
    positions = float(math.prod(axes))
    if context.training_size is not None:
        positions *= context.training_size / max(context.rows, 1)
    return max(positions, 1.0)


def kl_negative(context: Context) -> Findings:
    terms = _by_layers(context)
    if context.outputs is None or (not context.has_loss and len(terms) == 1):
        return  # The only term of the loss may be a likelihood.
    for number, term in enumerate(terms):
        if term.value >= -1e-5:
            continue
        # An estimate of a KL may be negative in one draw, but not on average.
        values = [term.value]
        for draw in range(1, _DRAWS):
            values += context.added_with(context.x, draw)[number : number + 1]
        mean = float(np.mean(values))
        error = float(np.std(values)) / math.sqrt(len(values))
        if np.isfinite(mean) and mean + 3.0 * error < -1e-5:
            yield Finding(
                "kl-negative",
                term.path,
                f"It adds {mean:.4g} to the loss, the mean of {len(values)} draws. A "
                "KL divergence is never negative: this one is maximised, without a "
                "bound.",
                "Change the sign. The KL of N(loc, exp(s / 2)) to N(0, 1) is "
                "`-0.5 * sum(1 + s - loc**2 - exp(s))`, and it is added to the loss; "
                "`uq.NormalSampling` does it.",
            )


def kl_weight(context: Context) -> Findings:
    if context.outputs is None:
        return
    positions = _positions(context)
    for term in _of_weights(context):
        weight = float(to_numpy(term.layer.kl_weight))
        if weight * positions > 2.0:
            where = "in the batch" if context.training_size is None else "in all"
            yield Finding(
                "kl-weight",
                term.layer.path,
                f"`kl_weight` is {weight:.4g} with {positions:.0f} scored positions "
                f"{where}: the KL of {term.value / weight:.4g} nats counts "
                f"{weight * positions:.4g} times or more.",
                "Keras averages the loss over positions, and the KL of weights "
                "belongs to the whole training set: write "
                "`kl_weight=1 / len(x_train)` (for sequences, 1 / (N * T)).",
            )


def kl_dominates(context: Context) -> Findings:
    if context.data_loss is None or not np.isfinite(context.data_loss):
        return
    terms = _of_weights(context) + _without_input(context)
    total = sum(term.value for term in terms)
    limit = _LARGE * max(abs(context.data_loss), 1.0)
    if not np.isfinite(total) or total < limit or any(kl_weight(context)):
        return
    # Few data for many weights give such a KL with the right weight, too.
    right = all(term.of_weights for term in terms)
    largest = max(terms, key=lambda term: term.value)
    yield Finding(
        "kl-dominates",
        largest.layer.path if largest.layer else largest.path,
        f"Terms that do not depend on x add {total:.4g} to the loss, beside a compiled "
        f"loss of {context.data_loss:.4g}: the data hardly count.",
        "The weight is right, and there are few data for so many weights: use fewer "
        "units, a wider prior, or `uq.callbacks.KLWarmup`."
        if right
        else "The KL of weights belongs to the whole training set, and the loss is a "
        "mean over examples: divide it by `len(x_train)`.",
        problem=not right,
    )


def _latent_kl(call: Call) -> float:
    """KL of `N(loc, exp(s / 2))` to N(0, 1), per example, from a layer's inputs.

    The inputs are `loc` and `s`, or one tensor `[loc | s]`; 0 where they are
    something else.
    """
    tensors = [to_numpy(t) for t in tree.flatten(call.args) if ops.is_tensor(t)]
    if len(tensors) == 1 and tensors[0].shape[-1] % 2 == 0:
        tensors = np.split(tensors[0], 2, axis=-1)
    if len(tensors) != 2 or tensors[0].shape != tensors[1].shape:
        return 0.0
    loc, s = tensors
    kl = 0.5 * (loc**2 + np.exp(s) - 1.0 - s)
    return float(kl.reshape(len(kl), -1).sum(axis=1).mean())


def _latent_weights(context: Context) -> Iterator[tuple[str, float]]:
    """Pairs of a path and the weight of its latent KL, summed over dimensions."""
    by_path: dict[str, Call] = {}
    for call in context.calls:
        if isinstance(call.layer, NormalSampling):
            yield call.path, float(to_numpy(call.layer.kl_weight))
        else:
            by_path.setdefault(call.path, call)
    for term in _by_layers(context):
        if term.path not in by_path:
            continue
        call = by_path[term.path]
        exact = _latent_kl(call)
        if exact > 1e-3:
            weight = abs(term.value) / exact
            if any(np.isclose(weight, w, rtol=1e-3) for w in (1.0, context.rows)):
                yield call.path, weight


def kl_against_mean(context: Context) -> Findings:
    found = [o for o in outputs.of_model(context) if o.averages]
    if len(found) != 1 or found[0].head is not None:
        return
    features = math.prod(shape(found[0].tensor)[1:])
    for path, weight in _latent_weights(context) if features > 1 else ():
        if weight * features > 2.0:
            yield Finding(
                "kl-against-mean",
                path,
                f"The KL is summed over latent dimensions with weight {weight:.4g}, "
                f"while '{found[0].function}' is averaged over {features} features: "
                f"the KL counts {weight * features:.4g} times too much.",
                "Sum the loss over features, too: end the decoder in "
                "`uq.ConstantVarianceHead` with `uq.losses.NegativeLogLikelihood()`, "
                "for data in [0, 1] in `uq.DistributionHead(units, 'bernoulli')`.",
            )


def kl_twice(context: Context) -> Findings:
    terms = _without_input(context)
    for layer in {id(t.layer): t.layer for t in terms}.values():
        own = [t.value for t in terms if t.layer is layer]
        if len(own) > 1 and np.allclose(own, own[0], rtol=1e-4):
            yield Finding(
                "kl-twice",
                layer.path,
                f"It adds the same {own[0]:.4g} {len(own)} times in one pass, once "
                "for each call: a KL of weights belongs there once.",
                "Add it once per pass, as the regularizer of a weight does; "
                "`uq.DenseVariational` and `uq.Variational` do.",
            )
    weights = _of_weights(context)
    known = {}  # with and without the weight
    for term in weights:
        weight = float(to_numpy(term.layer.kl_weight))
        known[term.layer.path] = (term.value, weight and term.value / weight)
    weighted, plain = (sum(values[i] for values in known.values()) for i in (0, 1))
    known["all layers"] = (weighted, plain)
    for term in terms:
        for path, values in known.items():
            if any(v and np.isclose(term.value, v, rtol=1e-4) for v in values):
                yield Finding(
                    "kl-twice",
                    term.path,
                    f"It adds {term.value:.4g} to the loss, the KL of {path}, which "
                    "the layer adds itself.",
                    "Leave this `add_loss` out: the layer's own KL is in "
                    "`model.losses` already.",
                )
                break


def collapsed_to_prior(context: Context) -> Findings:
    for term in _of_weights(context):
        random_weights = getattr(term.layer, "random_weights", None)
        if random_weights is None or len(random_weights.generators) > 1:
            continue  # a dropout rate, or a KL that is an estimate
        count = random_weights.posterior.size
        kl = float(to_numpy(term.layer.kl()))
        if kl / count < _COLLAPSED:
            yield Finding(
                "collapsed-to-prior",
                term.layer.path,
                f"The KL is {kl:.3g} nats for {count} weights: they are draws from "
                "the prior and know nothing of the data.",
                "Lower `kl_weight` to 1 / (number of training positions), start with "
                "`uq.callbacks.KLWarmup`, or use fewer units.",
            )
    for call, params in outputs.latent_params(context):
        values = to_numpy(normal_kl(*Normal().split(params)))
        of_each = values.reshape(-1, values.shape[-1]).mean(axis=0)
        if (of_each < _COLLAPSED).all():
            yield Finding(
                "collapsed-to-prior",
                call.path,
                f"All {len(of_each)} latent dimensions have a KL below {_COLLAPSED:g} "
                f"nats, {of_each.sum():.2g} together: the code carries nothing of x.",
                "Raise the KL weight slowly, with `uq.callbacks.KLWarmup`. Check that "
                "the decoder needs the code: the scale of its output starts at that "
                "of the data (`head.adapt(x_train)`).",
            )


def posterior_too_wide(context: Context) -> Findings:
    terms = [*_of_weights(context), *_without_input(context)]
    found = outputs.of_model(context)
    if not terms or len(found) != 1 or found[0].target is None:
        return
    deviation = to_numpy(found[0].target).std()
    if not is_float(found[0].target) or not deviation > 0:
        return
    draws = np.stack(
        [
            tree.flatten(context.passed(training=True, draw=draw))[0]
            for draw in range(1, 5)
        ]
    )
    if found[0].family is not None:
        draws = to_numpy(found[0].family.split(ops.convert_to_tensor(draws))[0])
    elif found[0].custom:
        draws = draws[..., :1]
    spread = float(np.sqrt(np.mean(np.var(draws, axis=0))))
    if np.isfinite(spread) and spread > _WIDE * deviation:
        term = max(terms, key=lambda t: abs(t.value))
        yield Finding(
            "posterior-too-wide",
            term.layer.path if term.layer else term.path,
            f"The prediction moves by {spread:.3g} from one draw of the weights to "
            f"the next, {spread / deviation:.3g} times the standard deviation of y: "
            "the noise of the weights drowns the signal.",
            "Start the scales of the posterior near 0.02, in place of softplus(0) = "
            "0.69, and scale a full covariance by the root of its size; "
            "`uq.DenseVariational` does both.",
        )


CHECKS = [
    kl_negative,
    kl_weight,
    kl_dominates,
    kl_against_mean,
    kl_twice,
    collapsed_to_prior,
    posterior_too_wide,
]
