"""Equal-weight mixtures of distributions of one family, in NumPy.

`params` has the shape `(S, N, ..., P * D)`: the first axis numbers the `S`
components. Everything is evaluated for some rows at a time and in float64
where the backend has it.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_uq_layers import families
from keras_uq_layers import numerics

# Numbers in a temporary array: 32 MB in float64.
_CHUNK = 2**22


def by_rows(function, params, *others, temporaries=1):
    """`function` of slices along axis 1, put together along axis 0.

    Args:
        function: Takes params `(S, n, ...)` in float64 and slices `(n, ...)`
            of the others; returns an array `(n, ...)` or a tuple of these.
        params: Array `(S, N, ..., P * D)`.
        *others: Arrays `(N, ...)`.
        temporaries: Numbers that the function makes for each one in params.

    Returns:
        What the function returns, with N rows.
    """
    rows = params.shape[1]
    step = max(1, _CHUNK * rows // max(1, params.size * temporaries))
    parts = []
    for start in range(0, rows, step):
        part = slice(start, start + step)
        wide = np.asarray(params[:, part], dtype="float64")
        parts.append(function(wide, *(other[part] for other in others)))
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)


def evaluate(function, *arrays):
    """A function of tensors, as a function of float64 arrays."""
    tensors = [ops.convert_to_tensor(np.ascontiguousarray(a)) for a in arrays]
    return np.asarray(ops.convert_to_numpy(function(*tensors)), dtype="float64")


def _method(family, name, *first):
    """A method of a family with its first arguments given.

    On JAX it is compiled, and kept: the loops of a root search would be
    compiled at every call.
    """
    if keras.backend.backend() != "jax":
        return functools.partial(getattr(family, name), *first)
    # Families are equal by their config, which may not tell all of a user's.
    return _compiled(family, repr(vars(family)), name, *first)


@functools.lru_cache(maxsize=64)
def _compiled(family, attributes, name, *first):
    import jax

    return jax.jit(functools.partial(getattr(family, name), *first))


def moments(family, params):
    """Mean, mean of the variances and variance of the means.

    The law of total variance: the last two add up to the variance of the
    mixture.
    """
    means = evaluate(family.mean, params)
    mean = means.mean(axis=0)
    aleatoric = evaluate(family.variance, params).mean(axis=0)
    return mean, aleatoric, np.square(means - mean).mean(axis=0)


def log_prob(family, params, y):
    """Log density of the mixture, `log(mean over s of p_s(y))`, in nats."""
    y = np.broadcast_to(y, (params.shape[0], *y.shape))
    terms = evaluate(_method(family, "log_prob"), y, params)
    return log_mean_exp(terms)


def log_mean_exp(terms):
    """`log(mean(exp(terms)))` over the first axis."""
    top = terms.max(axis=0)
    # A point that no component can explain has -inf, not NaN.
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(terms - shift).mean(axis=0))


def cdf(family, params, y):
    """Distribution function of the mixture, output by output."""
    y = np.broadcast_to(y, (params.shape[0], *y.shape))
    return evaluate(_method(family, "cdf"), y, params).mean(axis=0)


def crps(family, params, y):
    """Continuous ranked probability score of the mixture, output by output."""
    if len(params) == 1:
        return evaluate(family.crps, y, params[0])
    if not isinstance(family, families.Normal):
        raise NotImplementedError(
            f"The CRPS of a mixture has a closed form for the family 'normal' only, "
            f"not for {family.name!r}. Use `log_prob`, or the score of a single pass."
        )

    def of_normals(y, params):
        loc, scale = (ops.moveaxis(part, 0, -1) for part in family.split(params))
        log_weight = ops.full_like(loc, -math.log(params.shape[0]))
        return numerics.normal_mixture_crps(y, log_weight, loc, scale)

    return evaluate(of_normals, y, params)


def quantile(family, params, q):
    """Quantile of the mixture, output by output, by a root search.

    The smallest and the largest quantile of the components bracket it; see
    `bracketed_root`.
    """
    components = evaluate(_method(family, "quantile", q), params)
    root = bracketed_root(
        lambda y: cdf(family, params, y) - q,
        components.min(axis=0),
        components.max(axis=0),
    )
    return np.round(root) if getattr(family, "discrete", False) else root


def bracketed_root(function, low, high):
    """The smallest x with `function(x) >= 0`, for a non-decreasing function.

    Chandrupatla's method, for all entries at once: inverse quadratic
    interpolation where it is safe, else bisection. The bracket always holds
    the root and shrinks to a few units in the last place, so that a jump of
    the function is found, too.

    Args:
        function: From an array to an array of the same shape.
        low: Array: no root is below.
        high: Array: the function is not negative there.

    Returns:
        Array.

    Reference:
        Chandrupatla, 1997, "A new hybrid quadratic/bisection algorithm for
        finding the zero of a nonlinear function without using derivatives",
        Adv. Eng. Software 28(3), doi:10.1016/S0965-9978(96)00051-8.
    """
    x1, x2 = high.astype("float64"), low.astype("float64")
    if not (x1 > x2).any():
        return x1
    f1, f2 = np.maximum(function(x1), 0.0), function(x2)
    # At the lower end already: a jump, or a bracket without width.
    x1, f1 = np.where(f2 >= 0, x2, x1), np.where(f2 >= 0, f2, f1)
    up1 = np.ones(x1.shape, dtype=bool)  # whether f1 is on the upper side
    t = np.full(x1.shape, 0.5)
    eps = np.finfo("float64").eps
    tolerance = 4.0 * eps * np.maximum(np.abs(high), np.abs(low))
    tolerance = np.maximum(tolerance, np.finfo("float64").tiny)
    # As many steps as pure bisection would need in the worst case, at least.
    for _ in range(2 * math.ceil(-math.log2(eps))):
        if (np.abs(x2 - x1) <= tolerance).all():
            break
        x = x1 + t * (x2 - x1)
        f = function(x)
        same = (f >= 0) == up1
        x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
        x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
        x1, f1, up1 = x, f, f >= 0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
            smooth = (phi**2 < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
            t = np.where(
                smooth,
                f1 / (f2 - f1) * f3 / (f2 - f3)
                + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2),
                0.5,
            )
            margin = np.minimum(0.5, 0.5 * tolerance / np.abs(x2 - x1))
        t = np.where(np.isfinite(t), t, 0.5)
        t = np.where(np.isfinite(margin), np.clip(t, margin, 1.0 - margin), 0.5)
    return np.where(up1, x1, x2)
