"""The continuous ranked probability score of a mixture, in NumPy."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers.families import Family
from keras_uq_layers.prediction import mixture

# Standard deviations beyond which nothing is expected. Beyond an end where the
# tail probability is p, at most p^(3/2) standard deviations are missing (by the
# inequality of Cauchy and Schwarz), and p < 1 / k^2 (by that of Cantelli).
_FAR = 30.0
# Fewer of them are enough where the tail is below _LIGHT.
_LIGHT = 1e-4
_LIGHT_UNITS = 10.0, 4.0
# A score of fewer standard deviations belongs to a distribution with most of
# its mass in a small part of them. Quartiles measure it.
_SMALL_SCORE = 0.02
# Distances of quartiles from where on a tail is a power.
_HEAVY_FAR = 1e12

# The positive nodes of Kronrod (15), every second one a node of Gauss (7).
# QUADPACK, Piessens et al., 1983.
_HALF = (
    0.9914553711208126,
    0.9491079123427585,
    0.8648644233597691,
    0.7415311855993945,
    0.5860872354676911,
    0.4058451513773972,
    0.2077849550078985,
)
_NODES = np.array([*(-node for node in _HALF), 0.0, *_HALF[::-1]])


def _weights(nodes: Array) -> Array:
    """Weights of the rule that is exact for polynomials as long as the nodes."""
    polynomials = np.polynomial.legendre.legvander(nodes, len(nodes) - 1)
    integrals = 2.0 * np.eye(len(nodes))[0]
    return np.linalg.solve(polynomials.T, integrals)


# Three rules: of all nodes, of those of Gauss, of the others. The latter two
# miss a step in different ways: that both agree with the first is no chance.
_RULES = np.zeros((3, 15))
_RULES[0] = _weights(_NODES)
_RULES[1, 1::2] = _weights(_NODES[1::2])
_RULES[2, ::2] = _weights(_NODES[::2])
_CRPS_TOLERANCE = 5e-4  # of a piece, as a share of the score
# Width of the first pieces, in standard deviations of the narrowest component.
_WIDE_PIECE = 6.0
# Standard deviation from which counts are integrated and not summed.
_WIDE_COUNTS = 20.0
_FIRST_COUNTS = 64


def crps(family: Family, params: Array, y: Array) -> Array:
    """Continuous ranked probability score of the mixture, output by output.

    ```
    crps = integral of F(z)^2 below y + integral of (1 - F(z))^2 above y
    ```

    By adaptive quadrature, to a thousandth of its value. For counts by the sum
    over all of them, for points by the sum over the passes. Infinite where the
    tails are too heavy.
    """
    if isinstance(family, families.Point):
        return _crps_of_points(params, y)
    family, parts = mixture.single_outputs(family, params)
    known = np.isfinite(y)
    values = np.where(known, y, 0.0).reshape(-1)
    if family.discrete:
        score = _count_crps(family, parts, values)
    else:
        score = _smooth_crps(family, parts, values)
    return np.where(known, score.reshape(y.shape), np.abs(y))


def _crps_of_points(values: Array, y: Array) -> Array:
    """`mean |x_s - y| - mean |x_s - x_t| / 2` over the passes `s` and `t`."""
    count = len(values)
    weight = (2.0 * np.arange(count) - count + 1.0) / count**2
    half_spread = np.tensordot(weight, np.sort(values, axis=0), axes=1)
    return np.abs(values - y).mean(axis=0) - half_spread


class _Reach(NamedTuple):
    """Where distribution functions are neither 0 nor 1, and how wide they are."""

    low: Array
    high: Array
    centre: Array
    unit: Array


def _smooth_crps(
    family: Family, parts: list[Array], y: Array, origin: float = -np.inf
) -> Array:
    """The integral, from `origin` or from where nothing is expected below."""
    mean, std, narrowest = mixture.spread(family, parts)
    score = np.zeros_like(y)
    light = np.isfinite(std) & (std > 0.0)
    if light.any():
        some = [part[:, light] for part in parts]
        reach = _reach_of_moments(family, some, mean[light], std[light])
        # Where the components are narrow, few nodes could miss their steps.
        pieces = np.ceil(
            std[light] / (_WIDE_PIECE * np.maximum(narrowest[light], 1e-300))
        )
        pieces = np.clip(pieces, 1, 16).astype("int64")
        score[light] = _integral(family, some, y[light], reach, pieces, origin)
        light[light] = score[light] > _SMALL_SCORE * std[light]
    if not light.all():
        some = [part[:, ~light] for part in parts]
        reach = _reach_of_quartiles(family, some, np.isnan(std[~light]))
        pieces = np.ones(len(reach.unit), "int64")
        score[~light] = _integral(family, some, y[~light], reach, pieces, origin)
        score[~light] += _tails(family, some, reach)
    return score


def _reach_of_moments(
    family: Family, parts: list[Array], mean: Array, std: Array
) -> _Reach:
    low, high = mean - _FAR * std, mean + _FAR * std
    for count in _LIGHT_UNITS:
        below, above = mean - count * std, mean + count * std
        low = np.where(_height(family, parts, below) < _LIGHT, below, low)
        high = np.where(_height(family, parts, above) > 1.0 - _LIGHT, above, high)
    lower, upper = _bounds(family, parts)
    return _Reach(np.maximum(low, lower), np.minimum(high, upper), mean, std)


def _reach_of_quartiles(
    family: Family, parts: list[Array], without_moments: Array
) -> _Reach:
    """Also where there are no moments, and none are needed between two bounds."""
    lower, upper = _bounds(family, parts)
    if (without_moments & np.isfinite(upper - lower)).all():
        unit = np.where(upper > lower, upper - lower, 1.0)
        return _Reach(lower, upper, 0.5 * (lower + upper), unit)
    levels = np.array([0.25, 0.5, 0.75])
    quartiles = mixture.quantile(family, np.stack(parts, axis=-1), levels)[:, 0]
    first, centre, third = np.moveaxis(quartiles, -1, 0)
    unit = np.where(third > first, third - first, 1.0)
    low, high = centre - _HEAVY_FAR * unit, centre + _HEAVY_FAR * unit
    return _Reach(np.maximum(low, lower), np.minimum(high, upper), centre, unit)


def _bounds(family: Family, parts: list[Array]) -> tuple[Array, Array]:
    lower, upper = family.array_bounds(*parts)
    return lower.min(axis=0), upper.max(axis=0)


def _height(family: Family, parts: list[Array], y: Array) -> Array:
    """The distribution function of the mixture at `y`, of shape `(n,)`."""
    return family.array_cdf(y, *parts).mean(axis=0)


def _integral(
    family: Family,
    parts: list[Array],
    y: Array,
    reach: _Reach,
    pieces: Array,
    origin: float,
) -> Array:
    """In the inverse hyperbolic sine of the distance from the centre.

    A piece is halved until three rules agree. Beyond the reach, the integrand
    is 0 or 1.
    """
    low, high, centre, unit = reach
    low = np.maximum(low, origin)
    inside = np.clip(y, low, np.maximum(low, high))
    total = np.abs(y - inside)
    three = (low, inside, np.maximum(low, high))
    ends = [np.arcsinh((end - centre) / unit) for end in three]
    start, end = np.concatenate(ends[:2]), np.concatenate(ends[1:])
    # Of each side of y, the pieces.
    pieces = np.tile(pieces, 2)
    side = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(len(side)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    half = (0.5 * (end - start) / pieces)[side]
    middle = start[side] + half * (1.0 + 2.0 * piece)
    row, reached = side % len(y), (side >= len(y)).astype("float64")
    while len(row):
        some = [part[:, row] for part in parts]
        values = []
        for node in _NODES:
            t = middle + half * node
            height = _height(family, some, centre[row] + unit[row] * np.sinh(t))
            values.append(np.cosh(t) * (height - reached) ** 2)
        score, *others = _RULES @ np.stack(values) * (half * unit[row])
        error = np.max([np.abs(score - other) for other in others], axis=0)
        whole = total + np.bincount(row, score, len(y))
        good = (error <= _CRPS_TOLERANCE * whole[row]) | (half < 1e-6)
        total += np.bincount(row[good], score[good], len(y))
        row, reached, middle, half = (
            np.tile(array[~good], 2) for array in (row, reached, middle, half)
        )
        half = 0.5 * half
        middle = middle + np.repeat([-1.0, 1.0], len(half) // 2) * half
    return total


def _tails(family: Family, parts: list[Array], reach: _Reach) -> Array:
    """Integral of the squares of two tails beyond `_HEAVY_FAR` units: of powers.

    ```
    p(z) = p(far) (z / far)^-a,  integral = far p(far)^2 / (2 a - 1)
    ```

    Infinite where `a <= 1/2`.
    """
    total = np.zeros_like(reach.unit)
    far = _HEAVY_FAR * reach.unit
    for end, sign, bound in zip(
        reach[:2], (-1.0, 1.0), _bounds(family, parts), strict=True
    ):
        heights = (_height(family, parts, z) for z in (end, end + sign * far))
        tail, remoter = (np.minimum(height, 1.0 - height) for height in heights)
        some = np.isinf(bound) & (remoter > 1e-12)  # and no rounding error
        exponent = np.log2(np.where(some, tail, 1.0) / np.where(some, remoter, 0.25))
        excess = 2.0 * exponent - 1.0
        finite = excess > 1e-3
        power = far * tail**2 / np.where(finite, excess, 1.0)
        total += np.where(some, np.where(finite, power, np.inf), 0.0)
    return total


def _count_crps(family: Family, parts: list[Array], y: Array) -> Array:
    """A sum over the counts; where they are spread widely, over the first of them.

    For the rest, the integral from half a count below to half a count above
    stands for each term: the error is a 24th of a second difference.
    """
    mean, std, _ = mixture.spread(family, parts)
    wide = std > _WIDE_COUNTS
    last = np.ceil(mean + _FAR * std)
    inside = np.clip(y, 0.0, last)
    total, y = np.abs(y - inside), inside
    last = np.where(wide, _FIRST_COUNTS - 1, last)
    for count, height in _heights(family, parts):
        total += np.where(count <= last, (height - (count >= y)) ** 2, 0.0)
        if count >= last.max() or (count >= y.max() and height.min() > 1.0 - 1e-9):
            break
    if wide.any():
        start = _FIRST_COUNTS - 0.5
        some = [part[:, wide] for part in parts]
        total[wide] += _smooth_crps(
            family, some, np.maximum(y[wide] - 0.5, start), start
        )
    return total


def _heights(family: Family, parts: list[Array]) -> Iterator[tuple[float, Array]]:
    """The distribution function of the mixture at 0, 1, 2, ..."""
    mass = height = family.array_cdf(np.zeros(()), *parts)
    for count in itertools.count():
        yield float(count), height.mean(axis=0)
        try:
            mass = mass * family.array_ratio(float(count), *parts)
            height = height + mass
        except NotImplementedError:
            height = family.array_cdf(np.asarray(count + 1.0), *parts)
