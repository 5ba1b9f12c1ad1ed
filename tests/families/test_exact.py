"""Every family against a density written down in mpmath, in every dtype.

The tolerance is the rounding error of the dtype times the condition number of
the density, by differences of the exact one.
"""

import ml_dtypes
import mpmath as mp
import numpy as np
import pytest
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from oracle import result_dtype
from strategies import ALL_DTYPES
from strategies import available
from strategies import dtypes
from strategies import of_many_points
from strategies import positives
from strategies import reals

from keras_uq_layers import families as F

HALF_LOG_TWO_PI = mp.log(2 * mp.pi) / 2


def log_normal_density(y, loc, scale):
    return -(((y - loc) / scale) ** 2) / 2 - mp.log(scale) - HALF_LOG_TWO_PI


def log_tail(z):
    """log Phi(z)"""
    return mp.log(mp.erfc(-z / mp.sqrt(2)) / 2)


def logistic(y, loc, scale):
    z = (y - loc) / scale
    return -2 * mp.log(2 * mp.cosh(z / 2)) - mp.log(scale)


def student_t(y, loc, scale, df):
    z = (y - loc) / scale
    half = df / 2
    return (
        mp.loggamma(half + mp.mpf(1) / 2)
        - mp.loggamma(half)
        - mp.log(df * mp.pi) / 2
        - mp.log(scale)
        - (half + mp.mpf(1) / 2) * mp.log1p(z * z / df)
    )


def gamma(y, mean, k):
    return k * mp.log(k / mean) + (k - 1) * mp.log(y) - k * y / mean - mp.loggamma(k)


def weibull(y, scale, k):
    return mp.log(k / y) + k * mp.log(y / scale) - (y / scale) ** k


def beta(y, a, b):
    normalizer = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    return (a - 1) * mp.log(y) + (b - 1) * mp.log1p(-y) - normalizer


def poisson(y, rate):
    return y * mp.log(rate) - rate - mp.loggamma(y + 1)


def negative_binomial(y, mean, r):
    coefficient = mp.loggamma(y + r) - mp.loggamma(r) - mp.loggamma(y + 1)
    return coefficient - r * mp.log1p(mean / r) - y * mp.log1p(r / mean)


def zero_inflated(base):
    """Of the density of a base, with the log odds of a zero as its last argument."""

    def density(y, *params):
        *params, logit = params
        zeros, rest = 1 / (1 + mp.exp(-logit)), 1 / (1 + mp.exp(logit))
        return mp.log((y == 0) * zeros + rest * mp.exp(base(y, *params)))

    return density


def hurdle(base):
    def density(y, *params):
        *params, logit = params
        zeros, rest = 1 / (1 + mp.exp(-logit)), 1 / (1 + mp.exp(logit))
        if y == 0:
            return mp.log(zeros)
        none = base(mp.mpf(0), *params)
        return mp.log(rest) + base(y, *params) - mp.log(-mp.expm1(none))

    return density


def censored_normal(y, loc, scale):
    return log_tail(-loc / scale) if y == 0 else log_normal_density(y, loc, scale)


def truncated_normal(y, loc, scale):
    return log_normal_density(y, loc, scale) - log_tail(loc / scale)


def normal_mixture(y, a, b, loc_a, loc_b, scale_a, scale_b):
    """Of log weights as they are: `constrain` has normalised them."""
    one = mp.exp(a + log_normal_density(y, loc_a, scale_a))
    other = mp.exp(b + log_normal_density(y, loc_b, scale_b))
    return mp.log(one + other)


def multivariate_normal(y, loc, scale):
    """One output; `test_two_correlated_outputs` has more."""
    return log_normal_density(y, loc, scale)


LOC = ("loc", lambda dtype: reals(dtype, -3, 3))
SCALE = ("positive", lambda dtype: positives(dtype, -3, 3))
SHAPE = ("positive", lambda dtype: positives(dtype, -2, 5))
# An exponent of up to 5: the power does not overflow.
LOW_SHAPE = ("positive", lambda dtype: positives(dtype, -2, 0.7))
LOGIT = ("loc", lambda dtype: reals(dtype, -3, 1))
RATE = st.floats(0.01, 0.99)
COUNT = st.integers(0, 1000).map(float)
POSITIVE = positives("float16", -3, 3)
REAL = reals("float16", -3, 3)

DENSITIES = [
    (F.Normal(), log_normal_density, REAL, [LOC, SCALE]),
    (
        F.Laplace(),
        lambda y, loc, b: -abs(y - loc) / b - mp.log(2 * b),
        REAL,
        [LOC, SCALE],
    ),
    (F.Logistic(), logistic, REAL, [LOC, SCALE]),
    (F.StudentT(), student_t, REAL, [LOC, SCALE, SHAPE]),
    (
        F.LogNormal(),
        lambda y, loc, scale: log_normal_density(mp.log(y), loc, scale) - mp.log(y),
        POSITIVE,
        [LOC, SCALE],
    ),
    (F.Gamma(), gamma, POSITIVE, [SCALE, SHAPE]),
    (F.Weibull(), weibull, POSITIVE, [SCALE, LOW_SHAPE]),
    (F.Beta(), beta, RATE, [SHAPE, SHAPE]),
    (F.Poisson(), poisson, COUNT, [SHAPE]),
    (F.NegativeBinomial(), negative_binomial, COUNT, [SHAPE, SHAPE]),
    (F.ZeroInflated("poisson"), zero_inflated(poisson), COUNT, [SHAPE, LOGIT]),
    (
        F.ZeroInflated("negative_binomial"),
        zero_inflated(negative_binomial),
        COUNT,
        [SHAPE, SHAPE, LOGIT],
    ),
    (F.Hurdle("poisson"), hurdle(poisson), COUNT, [SHAPE, LOGIT]),
    (
        F.Hurdle("negative_binomial"),
        hurdle(negative_binomial),
        COUNT,
        [SHAPE, SHAPE, LOGIT],
    ),
    (
        F.CensoredNormal(),
        censored_normal,
        st.one_of(st.just(0.0), POSITIVE),
        [LOC, SCALE],
    ),
    (F.TruncatedNormal(), truncated_normal, POSITIVE, [LOC, SCALE]),
    (
        F.NormalMixture(2),
        normal_mixture,
        REAL,
        [LOGIT, LOGIT, LOC, LOC, SCALE, SCALE],
    ),
    (F.MultivariateNormal(), multivariate_normal, REAL, [LOC, SCALE]),
    (
        F.Bernoulli(),
        lambda y, z: -mp.log1p(mp.exp(-z if y else z)),
        st.sampled_from([0.0, 1.0]),
        [LOGIT],
    ),
    (
        F.Bernoulli(from_logits=False),
        lambda y, p: mp.log(p) if y else mp.log1p(-p),
        st.sampled_from([0.0, 1.0]),
        [("probability", lambda dtype: RATE)],
    ),
]


def name_of(row):
    return row[0].name


def slopes(function, point):
    """Partial derivatives, to about 15 digits."""
    found = []
    for j, at in enumerate(point):
        step = mp.mpf(10) ** -25 * max(abs(at), mp.mpf(10) ** -5)
        up, down = list(point), list(point)
        up[j] += step
        down[j] -= step
        found.append((function(*up) - function(*down)) / (2 * step))
    return found


# Rows of each call: every dtype has as many in each example.
ROWS = 3
in_every_dtype = of_many_points(ROWS * len(ALL_DTYPES))
each_density = pytest.mark.parametrize("row", DENSITIES, ids=name_of)


@each_density
@in_every_dtype
@given(data=st.data())
def test_the_exact_density(row, data):
    for dtype in available():
        check_exact(*row, dtype, data)


def check_exact(family, density, targets, parameters, dtype, data):
    half = dtype in ("float16", "bfloat16")
    # Numbers that half precision has, too.
    draws = [make("float16" if half else dtype) for _, make in parameters]
    params = np.array([[data.draw(d) for d in draws] for _ in range(ROWS)])
    params = params.astype(dtype)
    y = np.array([[data.draw(targets)] for _ in range(ROWS)]).astype(dtype)
    value, (_, gradient) = value_and_gradients(family.log_prob, y, params)
    assert not np.isnan(gradient).any()
    eps = np.finfo(result_dtype(dtype)).eps
    for i in range(ROWS):
        point = [mp.mpf(float(v)) for v in params[i].astype("float64")]
        target = mp.mpf(float(y[i, 0]))
        if family.name == "laplace" and 0 < abs(target - point[0]) < 1e-20:
            # The exact slope below is a difference over a step of up to 1e-22 (1e-25
            # of `loc`), which must not reach across the kink at `loc`.
            continue
        with mp.workdps(80):
            exact = density(target, *point)
            slope = slopes(lambda *p, at=target: density(at, *p), point)
            condition = 1 + abs(exact) + sum(map(abs, map(mp.fmul, slope, point)))
            if not family.discrete and not getattr(family, "atoms", False):
                (along,) = slopes(lambda t, p=point: density(t, *p), [target])
                condition += abs(along * target)
        where = (dtype, y[i], params[i])
        assert abs(float(value[i]) - exact) <= 32 * eps * condition, where
        if half:
            continue  # a gradient is rounded to the dtype of its argument
        for got, right, at in zip(gradient[i], slope, point, strict=True):
            # A relative error of every intermediate result. The shares of a mixture
            # are exponentials of log densities, whose error is an absolute one.
            inner = abs(exact) if family.name == "normal_mixture" else 0
            allowed = 64 * eps * abs(right) * (1 + inner)
            allowed += 64 * eps * condition / max(abs(at), condition * eps)
            assert abs(float(got) - right) <= allowed, (*where, right)


@each_density
@in_every_dtype
@given(data=st.data())
def test_never_nan(row, data):
    """Whatever the target and the params, to the ends of the dtype."""
    for dtype in available():
        check_never_nan(*row, dtype, data)


def check_never_nan(family, _density, _targets, parameters, dtype, data):
    positive = positives(dtype)
    base = getattr(family, "base", family).name
    if base == "negative_binomial":
        # Its slope is the difference of two terms, those of its two deviances,
        # which both overflow beyond; a head emits no less than 1e-6.
        positive = positives(dtype, -12, 12)
    share = st.floats(0.0, 1.0, allow_subnormal=False)
    ends = {"loc": reals(dtype), "positive": positive, "probability": share}
    target = st.one_of(reals(dtype), COUNT, RATE)
    if base in ("gamma", "weibull", "log_normal", "poisson", "negative_binomial"):
        # The slope of log(y), 1 / y, is subnormal beyond.
        largest = 1.0 / float(ml_dtypes.finfo(dtype).tiny)
        target = target.filter(lambda y: y <= largest)
    columns = [target, *(ends[kind] for kind, _ in parameters)]
    drawn = [[data.draw(column) for column in columns] for _ in range(ROWS)]
    y, params = np.split(np.array(drawn).astype(dtype), [1], axis=1)
    value, gradients = value_and_gradients(family.log_prob, y, params)
    where = (dtype, y, params)
    assert not np.isnan(value).any(), where
    assert (value < np.inf).all(), where
    for gradient in gradients:
        assert not np.isnan(gradient).any(), where


@pytest.mark.parametrize(
    "family",
    [
        F.Normal(),
        F.Laplace(),
        F.Logistic(),
        F.StudentT(),
        F.LogNormal(),
        F.Gamma(),
        F.Weibull(),
        F.Beta(),
        F.CensoredNormal(),
        F.TruncatedNormal(),
        F.TruncatedNormal(-1.0, 2.0),
    ],
    ids=repr,
)
def test_no_slope_of_a_cdf_is_nan(family):
    """Params and targets 28 orders of magnitude apart, which a quotient squares."""
    rng = np.random.default_rng(0)
    size = (2000, len(family.parameters) + 1)
    drawn = 10 ** rng.uniform(-14, 14, size)
    signs = rng.choice([-1.0, 1.0], size)
    for column, name in enumerate(("y", *family.parameters)):
        if name == "loc" or (name == "y" and family.lower < 0):
            drawn[:, column] *= signs[:, column]
    y, params = np.split(drawn.astype("float32"), [1], axis=1)
    if family.upper == 1:
        y = rng.uniform(size=y.shape).astype("float32")
    value, gradients = value_and_gradients(family.cdf, y, params)
    assert ((value >= 0) & (value <= 1)).all()
    for gradient in gradients:
        assert not np.isnan(gradient).any()


@given(data=st.data())
def test_the_exact_density_of_classes(data):
    dtype = data.draw(dtypes())
    logits = data.draw(st.lists(reals(dtype, -3, 1), min_size=2, max_size=5))
    logits = np.array([logits]).astype(dtype)
    label = data.draw(st.integers(0, logits.shape[1] - 1))
    value, (gradient,) = value_and_gradients(
        lambda p: F.Categorical().log_prob(np.array([label]), p), logits
    )
    exact = [mp.mpf(float(v)) for v in logits[0].astype("float64")]
    total = mp.log(sum(map(mp.exp, exact)))
    eps = np.finfo(result_dtype(dtype)).eps
    size = 1 + 2 * max(map(abs, exact))
    assert abs(float(value[0]) - (exact[label] - total)) <= 8 * eps * size
    if dtype in ("float32", "float64"):
        for i, got in enumerate(gradient[0]):
            right = (i == label) - mp.exp(exact[i] - total)
            assert abs(float(got) - right) <= 8 * eps * size


@given(data=st.data())
def test_the_exact_pinball_loss(data):
    dtype = data.draw(dtypes())
    family = F.Quantiles([0.125, 0.5, 0.75])
    q = np.sort(data.draw(st.lists(reals(dtype, -3, 3), min_size=3, max_size=3)))
    y = data.draw(reals(dtype, -3, 3))
    q, y = np.array([q]).astype(dtype), np.array([[y]]).astype(dtype)
    value, (gradient,) = value_and_gradients(lambda q: family.pinball(y, q), q)
    gaps = (y.astype("float64") - q.astype("float64"))[0]
    levels = np.array(family.levels)
    exact = np.maximum(levels * gaps, (levels - 1) * gaps).mean()
    info = np.finfo(result_dtype(dtype))
    eps, tiny = float(info.eps), float(info.tiny)
    size = np.abs(y.astype("float64")).max() + np.abs(q.astype("float64")).max()
    # The mean of three terms, each of which the hardware may flush to zero where it
    # is below the smallest normal number.
    assert abs(float(value[0, 0]) - exact) <= 8 * eps * size + tiny
    sharp = np.abs(gaps) > 0
    right = np.where(gaps > 0, -levels, 1 - levels) / 3
    narrow = 0.01 if dtype in ("float16", "bfloat16") else 8 * eps
    np.testing.assert_allclose(gradient[0][sharp], right[sharp], atol=narrow)
