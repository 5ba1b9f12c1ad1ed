"""The Weibull distribution, function by function, against mpmath."""

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from backend import needs_float64
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from oracle import check_function
from oracle import of_parts
from strategies import dtypes
from strategies import positives
from strategies import probabilities

from keras_uq_layers import families

WEIBULL = families.Weibull()


@st.composite
def lifetimes(draw, tail=5.0):
    """A dtype, and rows `(y, scale, k)` with `(y / scale)^k` within `exp(+-tail)`."""
    dtype = draw(dtypes())
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        scale = draw(positives("float16", -3, 3))
        k = draw(positives("float16", -0.9, 3))
        y = scale * np.exp(draw(st.floats(-tail, tail)) / k)
        low, high = (1e-4, 6e4) if dtype == "float16" else (1e-30, 1e30)
        rows.append((float(np.clip(y, low, high)), scale, k))
    return dtype, rows


# How far a rounded logarithm of the ratio moves `u = k log(y / scale)`.
def moved(u, y, scale):
    near = mp.mpf("0.6") < y / scale < mp.mpf("1.5")
    return abs(u) * (1 if near else 1 + 4 * abs(mp.log(y)) + 4 * abs(mp.log(scale)))


def log_prob_exact(y, scale, k):
    u = k * mp.log(y / scale)
    value = mp.log(k / y) + u - mp.exp(u)
    slope = 1 - mp.exp(u)
    # Of the slope: that of its two terms, and that of `u`.
    error = 8 * (1 + mp.exp(u)) * (1 + moved(u, y, scale))
    size = abs(mp.log(k)) + abs(mp.log(y)) + 1
    per_k = 1 / k + slope * u / k
    return [
        (value, 8 * (size + mp.exp(u)) + abs(slope) * moved(u, y, scale) * 8),
        ((k * slope - 1) / y, (k * error + 8) / y),
        (-k * slope / scale, k * error / scale),
        (per_k, (8 + error * (1 + moved(u, y, scale))) / k),
    ]


@given(lifetimes())
def test_log_prob(case):
    dtype, rows = case
    check_function(of_parts(WEIBULL, "marginal_log_prob"), log_prob_exact, rows, dtype)


def cdf_exact(y, scale, k):
    u = k * mp.log(y / scale)
    value = -mp.expm1(-mp.exp(u))
    slope = mp.exp(u - mp.exp(u))
    error = 8 * slope * (1 + mp.exp(u)) * (1 + moved(u, y, scale))
    return [
        (value, 8 * value + 8 * slope * moved(u, y, scale)),
        (k * slope / y, k * error / y),
        (-k * slope / scale, k * error / scale),
        (u / k * slope, error * (1 + moved(u, y, scale)) / k),
    ]


@given(lifetimes(tail=6.0))
def test_cdf(case):
    dtype, rows = case
    check_function(of_parts(WEIBULL, "cdf"), cdf_exact, rows, dtype)


def quantile_exact(p, scale, k):
    t = mp.log(-mp.log1p(-p))
    value = scale * mp.exp(t / k)
    error = 8 * value * (1 + abs(t / k))
    slope = 1 / (k * (1 - p) * -mp.log1p(-p))
    return [
        (value, error),
        (value * slope, 4 * error * slope),
        (value / scale, error / scale),
        (-value * t / k**2, 4 * error * (1 + abs(t)) / k**2),
    ]


@given(
    dtypes(("float32", "float64")),
    st.lists(
        st.tuples(
            probabilities(), positives("float32", -5, 5), positives("float32", 0, 3)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_quantile(dtype, rows):
    rows = [(float(np.float32(p)), scale, k) for p, scale, k in rows]
    check_function(of_parts(WEIBULL, "quantile"), quantile_exact, rows, dtype)


def crps_exact(y, scale, k):
    t = (y / scale) ** k
    mean = scale * mp.gamma(1 + 1 / k)
    share = mp.gammainc(1 + 1 / k, 0, t, regularized=True)
    value = y * (1 - 2 * mp.exp(-t)) + mean * (mp.mpf(2) ** (-1 / k) - 2 * share)
    u = k * mp.log(y / scale)
    # `lgamma(1 + 1 / k)` is exponentiated, and the share moves with `u`.
    error = 64 * (y + mean) * (1 + abs(mp.loggamma(1 + 1 / k)) + moved(u, y, scale))
    return [
        (value, error),
        (1 - 2 * mp.exp(-t), 64 * (1 + mean / y) * (1 + k) * (1 + moved(u, y, scale))),
        None,
        None,
    ]


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=needs_float64)]
)
def test_crps(dtype):
    """At many points at once: its gradient is slow in pieces."""
    rng = np.random.default_rng(0)
    scale, k = 10.0 ** rng.uniform((-3, -0.9), (3, 3), (60, 2)).T
    y = scale * np.exp(rng.uniform(-3, 3, 60) / k)
    rows = list(zip(y, scale, k, strict=True))
    check_function(of_parts(WEIBULL, "crps"), crps_exact, rows, dtype)


@pytest.mark.parametrize("k", [0.1, 0.7, 1.0, 4.9, 5.1, 20.0, 300.0, 1e4])
def test_moments_and_entropy(k):
    """Of a large concentration, the variance is a small difference."""
    params = np.array([[2.0, k]], "float32")
    k = mp.mpf(float(params[0, 1]))
    first, second = mp.gamma(1 + 1 / k), mp.gamma(1 + 2 / k)
    for method, exact in (
        ("mean", 2 * first),
        ("variance", 4 * (second - first**2)),
        ("entropy", mp.euler * (1 - 1 / k) + mp.log(2 / k) + 1),
    ):
        value = float(to_numpy(getattr(WEIBULL, method)(params))[0, 0])
        np.testing.assert_allclose(value, float(exact), rtol=2e-5, err_msg=method)
    if k < 100:
        law = scipy.stats.weibull_min(float(k), scale=2.0)
        np.testing.assert_allclose(float(exact), law.entropy(), rtol=1e-6)


@needs_float64
def test_the_variance_is_exact_in_float64():
    k = np.geomspace(0.2, 1e6, 60)
    params = np.stack([np.ones_like(k), k], axis=-1)
    exact = [mp.gamma(1 + 2 / x) - mp.gamma(1 + 1 / x) ** 2 for x in map(mp.mpf, k)]
    np.testing.assert_allclose(
        to_numpy(WEIBULL.variance(params))[:, 0], list(map(float, exact)), rtol=1e-12
    )


@pytest.mark.parametrize("method", ["cdf", "crps"])
def test_outside_of_the_support_and_far_from_it(method):
    y = np.array([-2.0, 0.0, 1e-30, 1e30, np.nan], "float32")
    one = np.ones(5, "float32")
    value, gradients = value_and_gradients(of_parts(WEIBULL, method), y, one, 3 * one)
    assert np.isnan(value).tolist() == [False] * 4 + [True]
    for gradient in gradients:
        assert np.isfinite(gradient[:4]).all()
    if method == "cdf":
        assert value[:4].tolist() == [0.0, 0.0, 0.0, 1.0]
        at_infinity = WEIBULL.cdf(np.array([[np.inf]]), np.array([[1.0, 3.0]]))
        assert float(to_numpy(at_infinity)[0, 0]) == 1.0
    else:
        mean = scipy.stats.weibull_min(3.0).mean()
        np.testing.assert_allclose(value[1], mean * 2 ** (-1 / 3), rtol=1e-5)
        np.testing.assert_allclose(value[0], value[1] + 2.0, rtol=1e-5)


def test_an_exponential_distribution_where_the_concentration_is_1():
    y = np.array([[0.2], [3.0]], "float32")
    params = np.array([[2.0, 1.0]] * 2, "float32")
    gamma = families.Gamma()
    for method in ("log_prob", "cdf", "crps"):
        ours, theirs = (getattr(f, method)(y, params) for f in (WEIBULL, gamma))
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), rtol=1e-5)
