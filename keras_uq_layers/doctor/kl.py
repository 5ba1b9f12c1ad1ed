"""Checks of what layers add to the loss: its sign, its size, how often."""

import math

import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.gradients import to_numpy
from keras_uq_layers.families import Normal
from keras_uq_layers.layers import NormalLikelihood
from keras_uq_layers.layers import NormalSampling
from keras_uq_layers.layers._kl import KLRegularizer
from keras_uq_layers.numerics import normal_kl

_DRAWS = 8
_LARGE = 100.0  # times the compiled loss: orders of magnitude
_COLLAPSED = 1e-3  # nats per weight or latent dimension
_WIDE = 8.0  # standard deviations of y; sound posteriors start below 0.1


def _of_weights(context):
    """Terms of this package's variational layers: the KL of their weights."""
    return [a for a in context.added if isinstance(a.regularizer, KLRegularizer)]


def _by_layers(context):
    """Terms of `add_loss` in `call`, but for likelihoods."""
    return [
        a
        for a in context.added
        if not a.weights and not isinstance(a.layer, NormalLikelihood)
    ]


def _without_input(context):
    """Of the terms of `add_loss`, those that do not depend on x."""
    terms = _by_layers(context)
    if not terms or context.rows < 2:
        return []
    moved = tree.map_structure(lambda t: t[: context.rows // 2], context.x)
    found = context.added_with(moved)
    if len(found) != len(terms):
        return []
    return [
        term
        for term, other in zip(terms, found, strict=True)
        if np.isclose(term.value, other, rtol=1e-5) and term.value != 0
    ]


def _positions(context):
    tensor = tree.flatten(context.outputs)[0]
    axes = outputs.shape(tensor)[:-1] or (context.rows,)
    if getattr(context.model, "member_axis", None) is not None:
        axes = (axes[0], *axes[2:])
    positions = math.prod(axes)
    if context.training_size is not None:
        positions *= context.training_size / max(context.rows, 1)
    return max(positions, 1)


def _latent_kl(call):
    """KL of `N(loc, exp(s / 2))` to N(0, 1), per example, from a layer's inputs."""
    tensors = [t for t in tree.flatten(call.args) if ops.is_tensor(t)]
    try:
        if len(tensors) == 1:
            loc, s = np.split(to_numpy(tensors[0]), 2, axis=-1)
        else:
            loc, s = (to_numpy(t) for t in tensors[:2])
        with np.errstate(over="ignore"):
            kl = 0.5 * (loc**2 + np.exp(s) - 1.0 - s)
    except (ValueError, TypeError):
        return None
    return float(kl.reshape(len(kl), -1).sum(1).mean()) if kl.size else None


def kl_negative(context):
    if context.outputs is None:
        return
    if not context.compile_loss and len(_by_layers(context)) == 1:
        return  # the only loss there is: a likelihood, perhaps
    for number, term in enumerate(_by_layers(context)):
        if not term.value < -1e-5:
            continue
        values = [term.value]
        for draw in range(1, _DRAWS):
            found = context.added_with(context.x, draw)
            if len(found) <= number:
                break
            values.append(found[number])
        mean = float(np.mean(values))
        error = float(np.std(values)) / math.sqrt(len(values))
        if not np.isfinite(mean) or mean + 3.0 * error >= -1e-5:
            continue
        call = next((c for c in context.calls if c.path == term.path), None)
        exact = call and _latent_kl(call)
        same = exact is not None and exact > 0
        share = -term.value / exact if same else None
        seen = (
            f" The KL of N(loc, exp(log_variance / 2)) to N(0, 1) for its inputs is "
            f"{exact:.4g}: this is {share:.3g} times it, with the wrong sign."
            if same
            and (np.isclose(share, 1.0, rtol=1e-3) or share > 1e-3)
            and np.isclose(share, round(share) or share, rtol=1e-3)
            else ""
        )
        spread = f" +- {error:.2g} over {len(values)} draws" if error else ""
        yield Finding(
            "kl-negative",
            term.path,
            f"It adds {mean:.4g}{spread} to the loss, and a KL divergence is never "
            f"negative: it is maximised, without a bound.{seen}",
            "Change the sign. The KL of N(loc, exp(s / 2)) to N(0, 1) is "
            "`-0.5 * sum(1 + s - loc**2 - exp(s))`, and it is added to the loss; "
            "`uq.NormalSampling` does it.",
        )


def kl_weight(context):
    if context.outputs is None:
        return
    for term in _of_weights(context):
        weight = float(to_numpy(term.layer.kl_weight))
        positions = _positions(context)
        if weight * positions > 2.0:
            yield Finding(
                "kl-weight",
                term.layer.path,
                f"`kl_weight` is {weight:.4g} with {positions:.0f} scored positions "
                f"{'in the batch' if context.training_size is None else 'in all'}: "
                f"the KL of {weight and term.value / weight:.4g} nats counts "
                f"{weight * positions:.4g} times or more, {term.value:.4g} in the "
                f"loss{_beside(context)}.",
                "Keras averages the loss over positions, and the KL of weights "
                "belongs to the whole training set: write "
                "`kl_weight=1 / len(x_train)` (for sequences, 1 / (N * T)).",
            )


def _beside(context):
    if context.data_loss is None:
        return ""
    return f", beside a compiled loss of {context.data_loss:.4g}"


def kl_dominates(context):
    if context.data_loss is None or not np.isfinite(context.data_loss):
        return
    terms = _of_weights(context) + _without_input(context)
    total = sum(term.value for term in terms)
    limit = _LARGE * max(abs(context.data_loss), 1.0)
    if not np.isfinite(total) or total < limit or any(kl_weight(context)):
        return
    # With a right weight it is the truth: few data for many weights.
    right = all(term.weights for term in terms)
    largest = max(terms, key=lambda term: term.value)
    yield Finding(
        "kl-dominates",
        largest.layer.path if largest.layer else largest.path,
        f"Terms that do not depend on x add {total:.4g} to the loss, "
        f"{total / max(abs(context.data_loss), 1e-12):.3g} times the compiled loss of "
        f"{context.data_loss:.4g}: the data hardly count.",
        "With the right weight that is what Bayes says of so many weights and so few "
        "data: fewer units, a wider prior, or `uq.callbacks.KLWarmup`."
        if right
        else "The KL of weights belongs to the whole training set, and the loss is a "
        "mean over examples: divide it by `len(x_train)`.",
        problem=not right,
    )


def _latent_weights(context):
    """Pairs of a path and the weight of its latent KL, summed over dimensions."""
    for call in context.calls:
        if isinstance(call.layer, NormalSampling):
            yield call.path, float(to_numpy(call.layer.kl_weight))
    for term in _by_layers(context):
        call = next((c for c in context.calls if c.path == term.path), None)
        if call is None or isinstance(call.layer, NormalSampling):
            continue
        exact = _latent_kl(call)
        if exact and exact > 1e-3:
            weight = abs(term.value) / exact
            if any(np.isclose(weight, w, rtol=1e-3) for w in (1.0, context.rows)):
                yield call.path, weight


def kl_against_mean(context):
    found = [o for o in outputs.of_model(context) if o.averages]
    if len(found) != 1 or found[0].head is not None:
        return
    features = math.prod(outputs.shape(found[0].tensor)[1:])
    if features < 2:
        return
    for path, weight in _latent_weights(context):
        if weight * features <= 2.0:
            continue
        yield Finding(
            "kl-against-mean",
            path,
            f"The KL is summed over latent dimensions with weight {weight:.4g}, "
            f"while '{found[0].function}' is averaged over {features} features: the "
            f"KL counts {weight * features:.4g} times too much.",
            "Sum the loss over features, too: end the decoder in "
            "`uq.ConstantVarianceHead` with `uq.losses.NegativeLogLikelihood()`, for "
            "data in [0, 1] in `uq.DistributionHead(units, 'bernoulli')`.",
        )


def kl_twice(context):
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
    known = {}
    for term in weights:
        weight = float(to_numpy(term.layer.kl_weight))
        known[term.layer.path] = (term.value, weight and term.value / weight)
    if weights:
        known["all layers"] = tuple(map(sum, zip(*known.values(), strict=True)))
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


def collapsed_to_prior(context):
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
        loc, scale = Normal().split(params)
        kl = to_numpy(normal_kl(loc, scale))
        kl = kl.reshape(-1, kl.shape[-1]).mean(axis=0)
        low = int((kl < _COLLAPSED).sum())
        if low == len(kl):
            yield Finding(
                "collapsed-to-prior",
                call.path,
                f"All {low} latent dimensions have a KL below {_COLLAPSED:g} nats, "
                f"{kl.sum():.2g} together: the code carries nothing of x.",
                "Raise the KL weight slowly, with `uq.callbacks.KLWarmup`; and see "
                "that the decoder needs the code: the scale of its output starts at "
                "that of the data (`head.adapt(x_train)`).",
            )


def posterior_too_wide(context):
    terms = [*_of_weights(context), *_without_input(context)]
    found = outputs.of_model(context)
    if not terms or len(found) != 1 or found[0].target is None:
        return
    y = to_numpy(found[0].target)
    if y.dtype.kind != "f" or not y.std() > 0:
        return
    draws = [context.passed(training=True, draw=d) for d in range(1, 5)]
    draws = [np.asarray(tree.flatten(d)[0], "float64") for d in draws]
    family = found[0].family
    if family is not None:
        try:
            draws = [to_numpy(family.split(ops.convert_to_tensor(d))[0]) for d in draws]
        except ValueError:
            return
    elif found[0].custom:
        draws = [d[..., :1] for d in draws]
    spread = float(np.sqrt(np.mean(np.var(draws, axis=0))))
    if np.isfinite(spread) and spread > _WIDE * y.std():
        term = max(terms, key=lambda t: abs(t.value))
        yield Finding(
            "posterior-too-wide",
            term.layer.path if term.layer else term.path,
            f"The prediction moves by {spread:.3g} from one draw of the weights to "
            f"the next, {spread / y.std():.3g} times the standard deviation of y: "
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
