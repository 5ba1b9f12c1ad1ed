"""How a log likelihood curves in the outputs of a last layer, on the host.

A function takes outputs `f` and targets `y`, arrays of a row for each position,
and returns a `Curved`. Its Hessian, or the Fisher information where the two
differ, is the middle part of the generalised Gauss-Newton matrix.
"""

from collections.abc import Callable
from typing import NamedTuple
from typing import TypeAlias

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers.numerics import POSITIVE_FLOOR
from keras_uq_layers.numerics import lgamma


class Curved(NamedTuple):
    """The negative Hessian of the log likelihood of a row is
    `diag(diagonal) - outer(common, common)`, plus `cross`.

    Attributes:
        log_likelihood: In nats, `(N,)`.
        diagonal: `(N, U)`.
        common: `(N, U)`, or None for 0.
        cross: Entries between output `u` and output `u + U / 2`, `(N, U / 2)`, or
            None for 0.
        bound: The Hessian is at most `bound` times the identity, whatever the
            outputs are. None: there is no such number.
    """

    log_likelihood: Array
    diagonal: Array
    common: Array | None = None
    cross: Array | None = None
    bound: float | None = None


Likelihood: TypeAlias = Callable[[Array, Array], Curved]


def categorical(f: Array, y: Array) -> Curved:
    """Of logits `f` and labels `(N,)`, or probabilities of classes `(N, U)`."""
    shifted = f - f.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    if y.shape == f.shape and f.shape[1] > 1:
        chosen = np.sum(y * log_p, axis=1)
    else:
        labels = _column(y, f.shape[0])
        if not np.isin(labels, np.arange(f.shape[1])).all():
            raise arguments.error(
                "y", f"labels from 0 to {f.shape[1] - 1}, or rows of probabilities", y
            )
        chosen = log_p[np.arange(len(f)), labels.astype("int64")]
    # Boehning, 1992, Annals of the Institute of Statistical Mathematics 44(1).
    return Curved(chosen, p, p, bound=0.5)


def bernoulli(f: Array, y: Array) -> Curved:
    """Of logits `f` and zeros and ones of the same shape."""
    p = 0.5 * (1.0 + np.tanh(0.5 * f))
    terms = _aligned(y, f) * f - np.logaddexp(0.0, f)
    return Curved(terms.sum(axis=1), p * (1.0 - p), bound=0.25)


BOUNDED = categorical, bernoulli


def poisson(f: Array, y: Array) -> Curved:
    """Of counts with the rate `floor + softplus(f)`, as a head emits it.

    The Fisher information of the rate is `1 / rate`, the slope of the rate in `f`
    is the logistic function.
    """
    rate = POSITIVE_FLOOR + np.logaddexp(0.0, f)
    slope = 0.5 * (1.0 + np.tanh(0.5 * f))
    counts = _aligned(y, f)
    if (counts < 0).any():
        raise arguments.error("y", "counts, 0 or more", y)
    log_factorials = ops.convert_to_numpy(lgamma(ops.convert_to_tensor(counts + 1.0)))
    terms = counts * np.log(rate) - rate - log_factorials
    return Curved(terms.sum(axis=1), slope**2 / rate)


def unit_normal(f: Array, y: Array) -> Curved:
    """Of means `f` and targets, with a standard deviation of 1."""
    terms = -0.5 * (_aligned(y, f) - f) ** 2 - 0.5 * np.log(2.0 * np.pi)
    return Curved(terms.sum(axis=1), np.ones_like(f))


def normal(params: Callable[[Array], tuple[Array, Array]]) -> Likelihood:
    """Of the features of a head with a loc and a scale.

    The Fisher information of a normal is `1 / scale^2` in its loc and `2 / scale^2`
    in its scale. So the curvature in the features is positive, whatever map the
    head uses.

    Args:
        params: Function from features `(N, 2 D)` to loc and scale `(N, D)`, an
            output of which depends on features `d` and `d + D` alone.
    """

    def likelihood(f: Array, y: Array) -> Curved:
        loc, scale = params(f)
        z = (_aligned(y, loc) - loc) / scale
        terms = -0.5 * z**2 - np.log(scale) - 0.5 * np.log(2.0 * np.pi)
        width = loc.shape[1]
        first, second = (
            [part / scale for part in _slopes(params, f, block)]
            for block in (slice(width), slice(width, None))
        )
        weights = 1.0, 2.0

        def product(one: list[Array], other: list[Array]) -> Array:
            parts = zip(weights, one, other, strict=True)
            return sum(weight * a * b for weight, a, b in parts)

        diagonal = np.concatenate([product(first, first), product(second, second)], 1)
        return Curved(terms.sum(axis=1), diagonal, cross=product(first, second))

    return likelihood


def _slopes(
    function: Callable[[Array], tuple[Array, ...]], f: Array, block: slice
) -> list[Array]:
    """Derivatives in a block of features, by differences of fourth order.

    Keras has no derivative that is the same on all backends. The step fits float32,
    the widest type of JAX by default.
    """
    step = np.zeros_like(f)
    step[:, block] = 0.02
    one, minus_one, two, minus_two = (function(f + k * step) for k in (1, -1, 2, -2))
    return [
        (8.0 * (a - b) - (c - d)) / (12.0 * 0.02)
        for a, b, c, d in zip(one, minus_one, two, minus_two, strict=True)
    ]


def _aligned(y: Array, f: Array) -> Array:
    return y if y.shape == f.shape else _column(y, len(f), f.shape[1])[:, None]


def _column(y: Array, rows: int, width: int = 1) -> Array:
    if width > 1 or y.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"`y` must agree with the output of the model, {rows} row(s) of {width} "
            f"output(s). Received: y of shape {y.shape}"
        )
    return y.reshape(rows)
