"""Equal-weight mixtures of distributions of one family, in NumPy.

`params` has the shape `(S, N, P * D)`: the first axis numbers the `S`
components. Everything is evaluated for some rows at a time, in float64 where
the backend has it.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.numerics.dtypes import to_numpy

# Numbers in a temporary array: 32 MB in float64.
_CHUNK = 2**22
# Of a root, in standard deviations of the mixture.
_TOLERANCE = 1e-10
_COUNT_TOLERANCE = 0.1


def by_rows(function: Callable[..., Any], params: Array, *others: Array) -> Any:
    """`function` of slices along axis 1, put together along axis 0.

    Args:
        function: Takes params `(S, n, ...)` in float64 and slices `(n, ...)`
            of the others; returns an array `(n, ...)` or a tuple of these.
        params: Array `(S, N, ...)`.
        *others: Arrays `(N, ...)`.

    Returns:
        What the function returns, with N rows.
    """
    rows = params.shape[1]
    step = max(1, _CHUNK * rows // max(1, params.size))
    parts = []
    for start in range(0, max(rows, 1), step):
        part = slice(start, start + step)
        wide = np.asarray(params[:, part], dtype="float64")
        parts.append(function(wide, *(other[part] for other in others)))
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)


def evaluate(function: Callable[..., Tensor], *arrays: Array) -> Array:
    """A function of tensors, as a function of float64 arrays."""
    tensors = [ops.convert_to_tensor(np.ascontiguousarray(a)) for a in arrays]
    return to_numpy(function(*tensors))


def total_variance(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, mean of the variances and variance of the means, over the first axis.

    The law of total variance: the last two add up to the variance of the
    mixture.
    """
    # The mean of Keras is in float32 on PyTorch.
    count = ops.cast(ops.shape(means)[0], means.dtype)
    mean = ops.sum(means, axis=0) / count
    aleatoric = ops.sum(variances, axis=0) / count
    return mean, aleatoric, ops.sum(ops.square(means - mean), axis=0) / count


def moments(family: Family, params: Array) -> tuple[Array, ...]:
    """Mean, aleatoric and epistemic variance, each `(N, D)`."""
    params = ops.convert_to_tensor(np.ascontiguousarray(params))
    found = total_variance(family.mean(params), family.variance(params))
    return tuple(to_numpy(value) for value in found)


def known(family: Family, params: Array) -> Array:
    """Rows whose params are, in every pass, those of a distribution: `(N,)`."""
    if type(family).in_domain is Family.in_domain:
        # Some must be positive and none a NaN, which a minimum keeps: the smallest
        # ones stand for all passes, in a tenth of the time.
        with np.errstate(invalid="ignore"):  # it warns of a NaN in bfloat16
            params = params.min(axis=0, keepdims=True)
    return by_rows(lambda part: evaluate(family.in_domain, part).all(axis=0), params)


def warn_of_rows(outside: Array, family: Family, stacklevel: int) -> None:
    """Warns once of all rows whose params are those of no distribution."""
    if outside.any():
        warnings.warn(
            f"{np.count_nonzero(outside)} of {outside.size} example(s) have params "
            f"that are none of {family!r}: a scale that is not positive, or a NaN. "
            "All that is predicted for them is NaN.",
            stacklevel=stacklevel,
        )


def log_prob(family: Family, params: Array, y: Array) -> Array:
    """Log density of the mixture, `log(mean over s of p_s(y))`, in nats."""
    y = np.broadcast_to(y, (params.shape[0], *y.shape))
    return log_mean_exp(evaluate(family.log_prob, y, params))


def log_mean_exp(terms: Array) -> Array:
    """`log(mean(exp(terms)))` over the first axis."""
    top = terms.max(axis=0)
    # A point that no component can explain has -inf, not NaN.
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(terms - shift).mean(axis=0))


def cdf(family: Family, params: Array, y: Array) -> Array:
    """Distribution function of the mixture, output by output."""
    y = np.broadcast_to(y, (params.shape[0], *y.shape))
    return evaluate(family.cdf, y, params).mean(axis=0)


def quantile(family: Family, params: Array, levels: Array) -> Array:
    """Quantiles of the mixture, output by output: `(N, D, L)`.

    `levels` has the shape `(L,)`, or `(N * D, L)` for levels of each output.

    All roots are searched at once, by Chandrupatla's method (SciPy). The
    equation is `probit(F(y)) = probit(q)`, with `y` in standard deviations:
    for a normal its two sides differ by a straight line, and for most mixtures
    by a curve that is close to one.
    """
    from scipy.optimize import elementwise
    from scipy.special import ndtri

    if isinstance(family, families.Point):
        return _quantile_of_points(params, levels)
    units = family.units(params.shape[-1])
    family, parts = single_outputs(family, params)
    low, high, centre, unit = _bracket(family, parts, levels)
    row, level = np.broadcast_arrays(np.arange(low.shape[0])[:, None], levels)

    def excess(t, row, level):
        y = centre[row] + unit[row] * t
        reached = family.array_cdf(y, *(part[:, row] for part in parts)).mean(axis=0)
        return ndtri(np.clip(reached, 1e-300, 1.0 - 1e-16)) - ndtri(level)

    ends = tuple((end - centre[:, None]) / unit[:, None] for end in (low, high))
    tolerance = _TOLERANCE
    if family.discrete:  # a root between two whole numbers is enough
        tolerance = _COUNT_TOLERANCE / max(1.0, unit.max())
    found = elementwise.find_root(
        excess, ends, args=(row, level), tolerances={"xatol": tolerance, "xrtol": 0.0}
    )
    # Where both ends are on one side, a jump or rounding put the root there.
    at_end = np.where(found.f_bracket[0] >= 0.0, ends[0], ends[1])
    root = np.where(found.success, found.x, at_end) * unit[:, None] + centre[:, None]
    if family.discrete:
        root = _whole(family, parts, root, level)
    if family.closed:  # with a jump at its bounds, perhaps
        for bound in (family.lower, family.upper):
            at_bound = np.abs(root - bound) < 10.0 * tolerance * unit[:, None]
            root = np.where(at_bound, bound, root)
    root = np.clip(root, family.lower, family.upper)
    return root.reshape(params.shape[1], units, levels.shape[-1])


def _quantile_of_points(values: Array, levels: Array) -> Array:
    """The smallest value that a share `level` of the passes does not exceed."""
    ordered = np.sort(values, axis=0).reshape(len(values), -1)
    # 1e-9: 0.1 * 30 in floating point must not be rounded up to 4.
    rank = np.ceil(levels * len(values) - 1e-9).astype("int64") - 1
    rank = np.broadcast_to(rank, (ordered.shape[1], levels.shape[-1]))
    found = np.take_along_axis(ordered, rank.T, axis=0)
    return found.T.reshape(*values.shape[1:], levels.shape[-1])


def _whole(family: Family, parts: list[Array], root: Array, level: Array) -> Array:
    """The smallest whole numbers with `F(y) >= level`, from roots close to them."""
    near = np.round(root)
    row, column = np.nonzero(np.abs(root - near) < 2.0 * _COUNT_TOLERANCE)
    root = np.ceil(root)
    count = near[row, column]
    reached = family.array_cdf(count, *(part[:, row] for part in parts)).mean(axis=0)
    # The cdf of a level that is reached exactly may be rounded down.
    enough = reached >= level[row, column] * (1.0 - 1e-12)
    root[row, column] = np.where(enough, count, count + 1.0)
    return root


def sample(family: Family, params: Array, n: int, rng: np.random.Generator) -> Array:
    """Draws from the mixture, each of a component at random: `(N, D, n)`."""
    passes, rows = params.shape[:2]
    picked = params[rng.integers(passes, size=(rows, n)), np.arange(rows)[:, None]]
    if type(family).sample_from_noise is Family.sample_from_noise:
        # The quantile of a uniform number, which a family searches bit by bit.
        picked = picked.reshape(1, rows * n, -1)
        levels = rng.random((rows * n * family.units(params.shape[-1]), 1))
        draws = quantile(family, picked, np.clip(levels, 1e-15, 1.0 - 1e-15))
    else:
        seed = int(rng.integers(2**31 - 1))
        draws = evaluate(functools.partial(family.sample, seed=seed), picked)
    return np.moveaxis(draws.reshape(rows, n, -1), 1, -1)


def single_outputs(family: Family, params: Array) -> tuple[Family, list[Array]]:
    """A family and its parameters `(S, N * D)`: each output for itself."""
    parts = [to_numpy(part) for part in family.marginals(params)]
    family = families.Normal() if not family.independent else family
    return family, [part.reshape(len(params), -1) for part in parts]


def _bracket(
    family: Family, parts: list[Array], levels: Array
) -> tuple[Array, Array, Array, Array]:
    """Ends `(n, levels)` around quantiles, and a centre and a unit `(n,)`.

    By Cantelli's inequality, no quantile is farther from the mean than
    `sqrt((1 - q) / q)` standard deviations below, or `sqrt(q / (1 - q))`
    above. Where there are no moments, the quantiles of the components are the
    ends.
    """
    mean, std, _ = spread(family, parts)
    low = mean[:, None] - std[:, None] * np.sqrt((1.0 - levels) / levels)
    high = mean[:, None] + std[:, None] * np.sqrt(levels / (1.0 - levels))
    known = np.isfinite(std) & (std > 0.0)
    if not known.all():
        some = np.broadcast_to(levels, low.shape)[~known]
        rows = [part[:, ~known] for part in parts]
        of_each = [family.array_quantile(level, *rows) for level in some.T]
        low[~known] = np.stack([q.min(axis=0) for q in of_each], axis=-1)
        high[~known] = np.stack([q.max(axis=0) for q in of_each], axis=-1)
        mean = np.where(known, mean, 0.5 * (low.min(axis=1) + high.max(axis=1)))
        std = np.where(known, std, high.max(axis=1) - low.min(axis=1))
        std = np.where(std > 0.0, std, np.maximum(np.abs(mean), 1.0))
    margin = 1e-9 * std[:, None]
    lowest = -1.0 if family.discrete else family.lower
    low = np.maximum(low - margin, lowest)
    return low, np.minimum(high + margin, family.upper), mean, std


def spread(family: Family, parts: list[Array]) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of the mixture, and the smallest of a component.

    Each is `(n,)`, and NaN where the family has no mean or no variance.
    """
    params = np.stack(parts, axis=-1)
    try:
        means, variances = (
            evaluate(function, params)[..., 0]
            for function in (family.mean, family.variance)
        )
    except NotImplementedError:
        nothing = np.full(params.shape[1], np.nan)
        return nothing, nothing, nothing
    mean = means.mean(axis=0)
    variance = (variances + np.square(means - mean)).mean(axis=0)
    return mean, np.sqrt(variance), np.sqrt(variances.min(axis=0))
