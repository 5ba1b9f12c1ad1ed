import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow_probability as tfp
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from oracle import check_function
from strategies import dtypes
from strategies import positives
from strategies import probabilities
from strategies import reals
from test_normal import flush
from test_normal import points

from keras_uq_layers import numerics


def log_prob_exact(y, loc, scale):
    z = (y - loc) / scale
    value = -abs(z) - mp.log(2 * scale)
    condition = 8 * (abs(z) + abs(mp.log(scale)) + 1) + flush(scale)
    sign = mp.sign(z)
    square = (abs(z) - 1) / scale
    slack = flush(scale) / scale
    return [
        (value, condition),
        (-sign / scale, 8 / scale),
        (sign / scale, 8 / scale),
        (square, 16 * (abs(z) + 1) / scale + slack, abs(z)),
    ]


@given(st.one_of(points(), points(spread=30.0)))
def test_log_prob(case):
    dtype, rows = case
    check_function(numerics.laplace_log_prob, log_prob_exact, rows, dtype)


def cdf_exact(y, loc, scale):
    z = (y - loc) / scale
    tail = mp.exp(-abs(z)) / 2
    value = tail if z < 0 else 1 - tail
    slope = tail / scale
    per_loc = 16 * slope * (1 + abs(z)) + flush(scale) * slope
    return [
        (value, 8 * value * (1 + abs(z)) + flush(scale) * tail),
        (slope, per_loc),
        (-slope, per_loc),
        (-z * slope, per_loc * (1 + abs(z))),
    ]


@given(st.one_of(points(low=-20, high=20), points(spread=60.0, low=-20, high=20)))
def test_cdf(case):
    dtype, rows = case
    check_function(numerics.laplace_cdf, cdf_exact, rows, dtype)


def crps_exact(y, loc, scale):
    z = abs(y - loc) / scale
    tail = mp.exp(-z)
    sign = mp.sign(y - loc)
    return [
        (abs(y - loc) + scale * (tail - mp.mpf(3) / 4), 16 * (abs(y - loc) + scale)),
        (sign * (1 - tail), 16),
        (-sign * (1 - tail), 16),
        (tail * (1 + z) - mp.mpf(3) / 4, 16 * (1 + z * tail)),
    ]


@given(st.one_of(points(), points(spread=60.0)))
def test_crps(case):
    dtype, rows = case
    check_function(numerics.laplace_crps, crps_exact, rows, dtype)


@pytest.mark.parametrize(("y", "loc", "scale"), [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.7)])
def test_crps_is_the_integral_of_the_squared_cdf_error(y, loc, scale):
    law = scipy.stats.laplace(loc, scale)
    left = scipy.integrate.quad(lambda t: law.cdf(t) ** 2, -60, y, limit=200)[0]
    right = scipy.integrate.quad(lambda t: law.sf(t) ** 2, y, 60, limit=200)[0]
    value = numerics.laplace_crps(*(np.array(v) for v in (y, loc, scale)))
    assert abs(float(value) - left - right) < 1e-7


def quantile_exact(p, loc, scale):
    below = p < mp.mpf(1) / 2
    z = mp.log(2 * p) if below else -mp.log(2 - 2 * p)
    slope = scale / (p if below else 1 - p)
    return [
        (loc + scale * z, 8 * (abs(loc) + scale * (1 + abs(z)))),
        (slope, 16 * slope),
        (mp.mpf(1), 1),
        (z, 8 * (1 + abs(z))),
    ]


@given(
    dtypes(("float32", "float64")),
    st.lists(
        st.tuples(
            probabilities(), reals("float32", -10, 10), positives("float32", -10, 10)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_quantile(dtype, rows):
    rows = [(float(np.float32(p)), loc, scale) for p, loc, scale in rows]
    check_function(numerics.laplace_quantile, quantile_exact, rows, dtype)


def test_the_slope_of_the_cdf_at_loc_is_the_density():
    from backend import value_and_gradients

    one = np.ones(1, "float32")
    _, (slope, _, _) = value_and_gradients(numerics.laplace_cdf, 2 * one, 2 * one, one)
    assert slope[0] == 0.5


def test_against_tfp():
    rng = np.random.default_rng(0)
    y, loc = rng.normal(size=(2, 50))
    scale = np.exp(rng.normal(size=50))
    law = tfp.distributions.Laplace(loc, scale)
    for ours, theirs in [
        (numerics.laplace_log_prob(y, loc, scale), law.log_prob(y)),
        (numerics.laplace_cdf(y, loc, scale), law.cdf(y)),
        (numerics.laplace_quantile(0.3, loc, scale), law.quantile(np.float64(0.3))),
    ]:
        np.testing.assert_allclose(to_numpy(ours), theirs.numpy(), rtol=1e-12)
