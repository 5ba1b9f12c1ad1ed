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
    return evaluate(family.in_domain, params).all(axis=0)


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
    """Quantiles of the mixture, output by output: `(N, D, len(levels))`.

    All roots are searched at once, by Chandrupatla's method (SciPy). The
    equation is `probit(F(y)) = probit(q)`, with `y` in standard deviations:
    for a normal its two sides differ by a straight line, and for most mixtures
    by a curve that is close to one.
    """
    from scipy.optimize import elementwise
    from scipy.special import ndtri

    units = family.units(params.shape[-1])
    family, parts = _single_outputs(family, params)
    low, high, centre, unit = _bracket(family, parts, levels)
    row, level = np.broadcast_arrays(np.arange(low.shape[0])[:, None], levels)

    def excess(t, row, level):
        y = centre[row] + unit[row] * t
        reached = family.array_cdf(y, *(part[:, row] for part in parts)).mean(axis=0)
        return ndtri(np.clip(reached, 1e-300, 1.0 - 1e-16)) - ndtri(level)

    ends = tuple((end - centre[:, None]) / unit[:, None] for end in (low, high))
    found = elementwise.find_root(
        excess, ends, args=(row, level), tolerances={"xatol": _TOLERANCE, "xrtol": 0.0}
    )
    # Where both ends are on one side, a jump or rounding put the root there.
    at_end = np.where(found.f_bracket[0] >= 0.0, ends[0], ends[1])
    root = np.where(found.success, found.x, at_end) * unit[:, None] + centre[:, None]
    slack = 10.0 * _TOLERANCE * unit[:, None]
    if family.discrete:
        root = np.ceil(root - slack - 1e-6)
    if family.closed:  # and with a jump at its bounds, perhaps
        for bound in (family.lower, family.upper):
            root = np.where(np.abs(root - bound) < slack, bound, root)
    root = np.clip(root, family.lower, family.upper)
    return root.reshape(params.shape[1], units, len(levels))


def _single_outputs(family: Family, params: Array) -> tuple[Family, list[Array]]:
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
    mean, std = _moments(family, parts)
    params = np.stack(parts, axis=-1)
    low = mean[:, None] - std[:, None] * np.sqrt((1.0 - levels) / levels)
    high = mean[:, None] + std[:, None] * np.sqrt(levels / (1.0 - levels))
    known = np.isfinite(std) & (std > 0.0)
    if not known.all():
        of_each = [
            evaluate(functools.partial(family.quantile, q), params[:, ~known])[..., 0]
            for q in levels.tolist()
        ]
        low[~known] = np.stack([q.min(axis=0) for q in of_each], axis=-1)
        high[~known] = np.stack([q.max(axis=0) for q in of_each], axis=-1)
        mean = np.where(known, mean, 0.5 * (low.min(axis=1) + high.max(axis=1)))
        std = np.where(known, std, high.max(axis=1) - low.min(axis=1))
        std = np.where(std > 0.0, std, np.maximum(np.abs(mean), 1.0))
    margin = 1e-9 * std[:, None]
    lowest = -1.0 if family.discrete else family.lower
    low = np.maximum(low - margin, lowest)
    return low, np.minimum(high + margin, family.upper), mean, std


def _moments(family: Family, parts: list[Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of the mixture `(n,)`, NaN where there are none."""
    params = np.stack(parts, axis=-1)
    try:
        means, variances = (
            evaluate(function, params)[..., 0]
            for function in (family.mean, family.variance)
        )
    except NotImplementedError:
        nothing = np.full(params.shape[1], np.nan)
        return nothing, nothing
    mean = means.mean(axis=0)
    variance = (variances + np.square(means - mean)).mean(axis=0)
    return mean, np.sqrt(variance)


def crps(family: Family, params: Array, y: Array) -> Array:
    """Continuous ranked probability score of the mixture, output by output.

    ```
    crps = integral of F(z)^2 below y + integral of (1 - F(z))^2 above y
    ```

    By adaptive quadrature to about 1e-6 of the standard deviation, for counts by
    the sum over all of them.
    """
    family, parts = _single_outputs(family, params)
    values = y.reshape(-1)
    if family.discrete:
        score = _count_crps(family, parts, values)
    else:
        score = _smooth_crps(family, parts, values)
    return score.reshape(y.shape)


# Standard deviations beyond which nothing is expected.
_FAR = 30.0
# Node, weight of Kronrod (15 nodes), weight of Gauss (7 nodes) on [0, 1]; the
# other half mirrors it. QUADPACK, Piessens et al., 1983.
_RULE = np.array(
    [
        (0.9914553711208126, 0.0229353220105292, 0.0000000000000000),
        (0.9491079123427585, 0.0630920926299786, 0.1294849661688697),
        (0.8648644233597691, 0.1047900103222502, 0.0000000000000000),
        (0.7415311855993945, 0.1406532597155259, 0.2797053914892766),
        (0.5860872354676911, 0.1690047266392679, 0.0000000000000000),
        (0.4058451513773972, 0.1903505780647854, 0.3818300505051189),
        (0.2077849550078985, 0.2044329400752989, 0.0000000000000000),
        (0.0000000000000000, 0.2094821410847278, 0.4179591836734694),
    ]
)
_RULE = np.concatenate([_RULE * [-1.0, 1.0, 1.0], _RULE[-2::-1]])
_NODES, _KRONROD, _GAUSS = _RULE.T
_CRPS_TOLERANCE = 1e-5


def _smooth_crps(family: Family, parts: list[Array], y: Array) -> Array:
    """In the inverse hyperbolic sine of the distance from the mean."""
    mean, std = _moments(family, parts)
    low = np.maximum(mean - _FAR * std, family.lower)
    high = np.minimum(mean + _FAR * std, family.upper)
    inside = np.clip(y, low, high)
    u = [np.arcsinh((end - mean) / std) for end in (low, inside, high)]
    row = np.tile(np.arange(len(y)), 2)
    start, end = np.concatenate(u[:2]), np.concatenate(u[1:])
    reached = np.repeat([0.0, 1.0], len(y))
    total = np.abs(y - inside)
    while len(row):
        half = 0.5 * (end - start)
        values = []
        for node in _NODES:
            at = start + half * (1.0 + node)
            height = family.array_cdf(
                mean[row] + std[row] * np.sinh(at), *(part[:, row] for part in parts)
            )
            values.append(half * np.cosh(at) * (height.mean(axis=0) - reached) ** 2)
        fine, coarse = _KRONROD @ np.stack(values), _GAUSS @ np.stack(values)
        good = (np.abs(fine - coarse) < _CRPS_TOLERANCE) | (half < 1e-4)
        np.add.at(total, row[good], std[row[good]] * fine[good])
        row, reached = (np.tile(a[~good], 2) for a in (row, reached))
        start, middle, end = start[~good], (start + half)[~good], end[~good]
        start, end = np.concatenate([start, middle]), np.concatenate([middle, end])
    return total


def _count_crps(family: Family, parts: list[Array], y: Array) -> Array:
    mean, std = _moments(family, parts)
    last = np.maximum(np.ceil(mean + _FAR * std), y).max()
    total = np.zeros_like(y)
    for count in np.arange(last + 1.0):
        height = family.array_cdf(np.full_like(y, count), *parts).mean(axis=0)
        total += (height - (count >= y)) ** 2
    return total
