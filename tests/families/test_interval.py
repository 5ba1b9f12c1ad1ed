"""Intervals as targets: the probability of each family, and the wrapper."""

import mpmath as mp
import numpy as np
import pytest
from backend import has_float64
from backend import to_numpy
from backend import value_and_gradients
from every_family import EVERY_FAMILY
from keras import ops

from keras_uq_layers import families as F

LINE = [-np.inf, np.inf]


# Both tails in mpmath: of their differences, that of the smaller ones is exact.


def normal(y, loc, scale):
    z = (y - loc) / scale / mp.sqrt(2)
    return mp.erfc(-z) / 2, mp.erfc(z) / 2


def laplace(y, loc, scale):
    tail = mp.exp(-abs(y - loc) / scale) / 2
    return (tail, 1 - tail) if y < loc else (1 - tail, tail)


def logistic(y, loc, scale):
    z = (y - loc) / scale
    return 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))


def weibull(y, scale, k):
    hazard = (y / scale) ** k if y > 0 else mp.mpf(0)
    return -mp.expm1(-hazard), mp.exp(-hazard)


def log_normal(y, loc, scale):
    return normal(mp.log(y), loc, scale) if y > 0 else (mp.mpf(0), mp.mpf(1))


def censored_normal(y, loc, scale):
    """Above its bound of 0."""
    return normal(y, loc, scale) if y > 0 else (mp.mpf(0), mp.mpf(1))


def truncated_normal(y, loc, scale):
    """Above its bound of 0; of differences of tails those of the smaller ones."""
    lower, upper = normal(y, loc, scale)
    low, high = normal(mp.mpf(0), loc, scale)
    under = lower - low if y < loc else high - upper
    return (under / high, upper / high) if y > 0 else (mp.mpf(0), mp.mpf(1))


def normal_mixture(y, a, b, loc_a, loc_b, scale_a, scale_b):
    """Of log weights as they are."""
    one, other = normal(y, loc_a, scale_a), normal(y, loc_b, scale_b)
    return tuple(mp.exp(a) * u + mp.exp(b) * v for u, v in zip(one, other, strict=True))


def gamma(y, mean, k):
    x = k * y / mean
    return (
        mp.gammainc(k, 0, x, regularized=True),
        mp.gammainc(k, x, mp.inf, regularized=True),
    )


def beta(y, a, b):
    return (
        mp.betainc(a, b, 0, y, regularized=True),
        mp.betainc(b, a, 0, 1 - y, regularized=True),
    )


def student_t(y, loc, scale, df):
    z = (y - loc) / scale
    square = z * z
    tail = beta(df / (df + square), df / 2, mp.mpf(1) / 2)[0] / 2
    return (tail, 1 - tail) if z < 0 else (1 - tail, tail)


def poisson(count, rate):
    """The first argument of `gamma` is chosen so that its `x` is the rate."""
    above, until = gamma(rate, count + 1, count + 1)
    return until, above


def negative_binomial(count, mean, r):
    return beta(r / (r + mean), r, count + 1)


# Their own oracles are in `test_zero_inflated.py`.
WRAPPERS = {"interval", "zero_inflated", "hurdle"}
ROWS = 60
DTYPES = ["float32", "float64"] if has_float64() else ["float32"]


def real(rng):
    return rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-2, 2)


def positive(rng):
    return 10.0 ** rng.uniform(-2, 2)


def low_positive(rng):
    """A power of numbers from 1e-2 to 1e2 that does not overflow."""
    return 10.0 ** rng.uniform(-1, 0.7)


def share(rng):
    return rng.uniform(-3.0, -0.1)


def shape(rng):
    return 10.0 ** rng.uniform(-1, 3)


def rate(rng):
    return rng.uniform(0.001, 0.999)


def count(rng):
    return float(rng.integers(0, 300))


# The family, its tails, its parameters, and where its targets are.
TAILS = [
    (F.Normal(), normal, [real, positive], real),
    (F.Laplace(), laplace, [real, positive], real),
    (F.Logistic(), logistic, [real, positive], real),
    (F.Weibull(), weibull, [positive, low_positive], positive),
    (F.LogNormal(), log_normal, [real, positive], positive),
    (F.CensoredNormal(), censored_normal, [real, positive], positive),
    (F.TruncatedNormal(), truncated_normal, [real, positive], positive),
    (
        F.NormalMixture(2),
        normal_mixture,
        [share, share, real, real, positive, positive],
        real,
    ),
    (F.StudentT(), student_t, [real, positive, shape], real),
    (F.Gamma(), gamma, [positive, shape], positive),
    (F.Beta(), beta, [shape, shape], rate),
    (F.Poisson(), poisson, [shape], count),
    (F.NegativeBinomial(), negative_binomial, [shape, shape], count),
]
each_row = pytest.mark.parametrize("row", TAILS, ids=lambda row: row[0].name)
each_family = pytest.mark.parametrize(
    "family", [row[0] for row in TAILS], ids=lambda f: f.name
)


def test_no_family_is_forgotten():
    inherited = F.Family.log_interval_prob
    having = {f.name for f in EVERY_FAMILY if type(f).log_interval_prob != inherited}
    assert having - WRAPPERS == {row[0].name for row in TAILS}


def ends(rng, dtype, target):
    """From one rounding error, or one count, apart to infinitely far."""
    lower = np.array(target(rng), dtype)
    kind = rng.choice(["ulp", "left", "right", "wide", "wide"])
    if kind == "left":
        return -np.inf, float(lower)
    if kind == "right":
        return float(lower), np.inf
    above = float(np.nextafter(lower, np.array(np.inf, dtype)))
    if target is count:
        return float(lower), float(lower + rng.choice([1.0, 7.0, 30.0, 90.0]))
    if target is rate:
        return float(lower), max(above, float(lower + rng.random() * (1 - lower)))
    if kind == "wide":
        width = abs(float(lower)) * 10.0 ** rng.uniform(-7, 3)
        above = max(above, float((lower + width).astype(dtype)))
    return float(lower), above


def exact_mass(tails, lower, upper, params):
    """`log P(lower <= Y <= upper)` of mpmath numbers."""
    counts = tails in (poisson, negative_binomial)
    none = mp.isinf(lower) or (counts and lower <= 0)
    lower = lower - 1 if counts else lower
    below = (mp.mpf(0), mp.mpf(1)) if none else tails(lower, *params)
    above = (mp.mpf(1), mp.mpf(0)) if mp.isinf(upper) else tails(upper, *params)
    left = above[0] < below[1]
    return mp.log(above[0] - below[0] if left else below[1] - above[1])


def slopes(function, point):
    """Partial derivatives, to about 15 digits."""
    found = []
    for j, at in enumerate(point):
        step = mp.mpf(10) ** -30 * max(abs(at), mp.mpf(10) ** -5)
        up, down = list(point), list(point)
        up[j] += step
        down[j] -= step
        found.append((function(*up) - function(*down)) / (2 * step))
    return found


@each_row
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exact_probability(row, dtype):
    """To the last digits of the dtype, relative to the condition of the problem.

    The distance of the ends is exact: the condition is that of a move of both.
    """
    family, tails, parameters, target = row
    rng = np.random.default_rng(0)
    drawn = [ends(rng, dtype, target) for _ in range(ROWS)]
    params = np.array([[make(rng) for make in parameters] for _ in drawn], dtype)
    lower, upper = (np.array(end, dtype)[:, None] for end in zip(*drawn, strict=True))

    def log_mass(params):
        return family.log_interval_prob(
            ops.convert_to_tensor(lower), ops.convert_to_tensor(upper), params
        )

    value, (gradient,) = value_and_gradients(log_mass, params)
    eps = np.finfo(dtype).eps
    for i, (first, last) in enumerate(drawn):
        point = [mp.mpf(float(v)) for v in params[i]]
        with mp.workdps(100):
            first, last = mp.mpf(first), mp.mpf(last)
            anchor = last if mp.isinf(first) else first

            def exact(at, *point, low=first - anchor, high=last - anchor):
                return exact_mass(tails, at + low, at + high, point)

            right = exact(anchor, *point)
            slope, *gradients = slopes(exact, [anchor, *point])
            condition = 1 + abs(right)
            condition += 0 if family.discrete else abs(slope * anchor)
            condition += sum(
                abs(s * at) for s, at in zip(gradients, point, strict=True)
            )
        where = (dtype, first, last, params[i])
        assert abs(float(value[i, 0]) - right) <= 64 * eps * condition, where
        if family.name == "laplace" and first <= point[0] <= last:
            continue  # the slope across the kink is the difference of two densities
        for got, s, at in zip(gradient[i], gradients, point, strict=True):
            allowed = 256 * eps * condition * (abs(s) + 1 / abs(at))
            assert abs(float(got) - s) <= allowed, (where, s)


# The wrapper


def of_two(family):
    """Params of four rows with two outputs, and points between them."""
    features = to_numpy(family.initial_features(2, 1.0))
    features = features + 0.2 * np.random.default_rng(0).normal(size=(4, len(features)))
    params = to_numpy(family.constrain(features.astype("float32"), 1e-3))
    middle = to_numpy(family.quantile(0.5, params))
    return params, middle + (0.0 if family.discrete else 0.1 * middle)


@each_family
def test_equal_ends_are_the_plain_family(family):
    params, y = of_two(family)
    twice = np.concatenate([y, y], axis=-1)
    plain = value_and_gradients(lambda p: family.log_prob(y, p), params)
    wrapped = value_and_gradients(
        lambda p: F.Interval(family).log_prob(twice, p), params
    )
    np.testing.assert_array_equal(wrapped[0], plain[0])
    np.testing.assert_array_equal(wrapped[1][0], plain[1][0])
    alone = F.Interval(family).log_prob(y, params)
    np.testing.assert_array_equal(to_numpy(alone), plain[0])


@each_family
def test_the_probabilities_of_a_partition_add_up_to_one(family):
    params, _ = of_two(family)
    levels = np.array([0.001, 0.2, 0.5, 0.50001, 0.9, 0.99999], "float32")
    if family.atoms:
        levels = 0.8 + 0.2 * levels  # above the mass at the bound
    cuts = to_numpy(family.quantile(levels[:, None, None], params))
    cuts = np.concatenate([np.full_like(cuts[:1], -np.inf), cuts])
    upper = np.concatenate([cuts[1:], np.full_like(cuts[:1], np.inf)])
    lower = cuts + 1.0 if family.discrete else cuts
    y = np.concatenate([lower, upper], axis=-1)
    params = np.broadcast_to(params, (*y.shape[:-1], params.shape[-1]))
    parts = F.Interval(family).marginal_log_prob(y, params)
    total = np.exp(to_numpy(parts)).sum(axis=0)
    np.testing.assert_allclose(total, 1.0, rtol=2e-6)


@each_family
@pytest.mark.parametrize("dtype", ["float16", DTYPES[-1]])
def test_missing_impossible_and_unknown_outputs(family, dtype):
    """Each in its own output, whatever the params."""
    tiny, huge = 1e-6, 1e4
    width = len(family.parameters)
    params = np.array([[tiny, 1.0, huge] * width] * 3, "float32").astype(dtype)
    one = family.upper == 1.0
    low, high = np.array([0.25, 0.5]) if one else np.array([1.0, 3.0])
    ends = (LINE, [3.0, 2.0], [np.nan, np.inf])
    rows = [[first, low, first, last, high, last] for first, last in ends]
    value, (gradient,) = value_and_gradients(
        lambda p: F.Interval(family).marginal_log_prob(np.array(rows, "float32"), p),
        params,
    )
    for column in (0, 2):
        np.testing.assert_array_equal(value[:, column], [0.0, -np.inf, np.nan])
    assert np.isfinite(value[:, 1]).all()
    gradient = gradient.reshape(3, width, 3)
    assert (gradient[:, :, [0, 2]] == 0.0).all()
    assert np.isfinite(gradient[:, :, 1]).all()


@each_family
@pytest.mark.parametrize("dtype", DTYPES)
def test_never_nan(family, dtype):
    """Ends and params of many magnitudes."""
    # The incomplete gamma and beta functions have their own limits.
    reach = 30 if family.parameters[-1].startswith("scale") else 10
    rng = np.random.default_rng(1)
    shape = 400, 1
    powers = 10.0 ** rng.uniform(-reach, reach, (400, len(family.parameters)))
    signs = rng.choice([-1.0, 1.0], powers.shape)
    # What is positive at features far below zero is so everywhere.
    low = to_numpy(
        family.constrain(np.full((1, powers.shape[1]), -50.0, "float32"), 0.0)
    )
    params = np.where(low > 0, powers, signs * powers).astype(dtype)
    lower = (
        rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-reach, reach, shape)
    ).astype(dtype)
    upper = np.nextafter(lower, np.array(np.inf, dtype))
    far = (lower + 10.0 ** rng.uniform(-reach, reach, shape)).astype(dtype)
    upper = np.maximum(upper, np.where(rng.random(shape) < 0.5, far, upper))
    y = np.concatenate([lower, upper], axis=-1)
    value, (gradient,) = value_and_gradients(
        lambda p: F.Interval(family).marginal_log_prob(y, p), params
    )
    assert not np.isnan(value).any(), (y, params)[0][np.isnan(value)[:, 0]]
    bad = np.isnan(gradient).any(axis=-1)
    assert not bad.any(), (y[bad][:3], params[bad][:3])


@pytest.mark.parametrize(
    ("family", "ends", "params", "exact"),
    [
        # The quotient k y / mean underflows.
        (F.Gamma(), [1.6220308e-14, np.inf], [5.378023e13, 2.3194909e-13], -24.57174),
        (F.Gamma(), [6.455045e-14, 6.4550456e-14], [9.360903e13, 4.8267884e-13], None),
        # It overflows, as the value does.
        (F.Gamma(), [7.5178862e11, 7.5228945e11], [2.4140632e-14, 2.5513576e13], None),
        # The slope by the probability of success overflows, that by the mean does not.
        (
            F.NegativeBinomial(),
            [1.0958064e13, 3.4115202e13],
            [9.642207e-14, 5.5062409e12],
            -6.39397e14,
        ),
        (F.NegativeBinomial(), [8.65574e12, np.inf], [2.68748e-13, 1.641455e13], None),
        # Bounds far from the centre: all of the mass is at the nearer one.
        (F.TruncatedNormal(), [0.0, 1.0], [-1e9, 1e-9], 0.0),
        (F.TruncatedNormal(), [1.0, 2.0], [-1e9, 1e-9], -np.inf),
        (F.TruncatedNormal(-1.0, 2.0), [0.0, 2.0], [7e13, 1e-13], 0.0),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_no_slope_is_nan_at_far_params(family, ends, params, exact):
    """Found by sampling."""
    y, params = np.array([ends], "float32"), np.array([params], "float32")
    value, (gradient,) = value_and_gradients(
        lambda p: F.Interval(family).marginal_log_prob(y, p), params
    )
    assert not np.isnan(value).any()
    assert not np.isnan(gradient).any()
    if exact is not None:
        np.testing.assert_allclose(value[0, 0], exact, rtol=1e-6)
