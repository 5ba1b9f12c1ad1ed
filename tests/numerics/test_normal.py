import mpmath as mp
import numpy as np
import pytest
import scipy.special
import tensorflow_probability as tfp
from backend import has_float64
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from oracle import check_function
from oracle import flush
from strategies import dtypes
from strategies import location_scale
from strategies import positives
from strategies import probabilities
from strategies import reals

from keras_uq_layers import numerics
from keras_uq_layers.numerics.normal import log_ndtr_scaled


def standard(y, loc, scale):
    return (y - loc) / scale


def log_prob_exact(y, loc, scale):
    z = standard(y, loc, scale)
    value = -(z**2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2
    condition = 8 * (z**2 + abs(mp.log(scale)) + 1) + flush(scale) * abs(z)
    slope, square = z / scale, (z**2 - 1) / scale
    per_loc = 8 * abs(slope) + flush(scale) / scale
    per_scale = 16 * (z**2 + 1) / scale + flush(scale) * abs(z) / scale
    return [
        (value, condition),
        (-slope, per_loc),
        (slope, per_loc),
        (square, per_scale, z**2),
    ]


@given(st.one_of(location_scale(), location_scale(spread=10.0)))
def test_log_prob(case):
    dtype, rows = case
    check_function(numerics.normal_log_prob, log_prob_exact, rows, dtype)


def cdf_exact(y, loc, scale):
    z = standard(y, loc, scale)
    value = mp.ncdf(z)
    density = mp.npdf(z)
    # The relative condition number of the tail is z^2.
    condition = 16 * (value * (1 + z**2 * (z < 0)) + density * (1 + abs(z)))
    slope = density / scale
    per_loc = 16 * slope * (1 + z**2)
    # The density is flushed to zero before it is divided by a small scale.
    flushed = 4 / scale
    return [
        (value, condition),
        (slope, (per_loc, flushed)),
        (-slope, (per_loc, flushed)),
        (-z * slope, (per_loc * (abs(z) + 1), flushed * (abs(z) + 1))),
    ]


@given(
    st.one_of(
        location_scale(low=-20, high=20), location_scale(spread=30.0, low=-20, high=20)
    )
)
# The density 14 scales away is flushed to 0, before it is divided by the scale.
@example(("float32", [(-1.4e-9, 0.0, 1e-10), (1.4e-9, 0.0, 1e-10)]))
def test_cdf(case):
    dtype, rows = case
    check_function(numerics.normal_cdf, cdf_exact, rows, dtype)


def quantile_exact(p, loc, scale):
    z = mp.sqrt(2) * mp.erfinv(2 * p - 1)
    slope = scale / mp.npdf(z)
    return [
        (loc + scale * z, 8 * (abs(loc) + scale * (1 + abs(z)))),
        # exp(z^2 / 2): its condition number is z^2.
        (slope, 16 * slope * (1 + z**2)),
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
    # 1 - 1e-6 and the like must not round to 1.
    rows = [(float(np.float32(p)), loc, scale) for p, loc, scale in rows]
    check_function(numerics.normal_quantile, quantile_exact, rows, dtype)


def test_quantile_at_and_beyond_the_ends():
    value = to_numpy(
        numerics.normal_quantile(np.array([0.0, 1.0, -0.1, 1.1]), 0.0, 1.0)
    )
    assert value[0] == -np.inf
    assert value[1] == np.inf
    assert np.isnan(value[2:]).all()


@given(location_scale(spread=5.0, low=-3, high=3))
def test_quantile_inverts_the_cdf(case):
    _, rows = case
    y, loc, scale = (np.array(c, dtype="float64") for c in zip(*rows, strict=True))
    p = to_numpy(numerics.normal_cdf(y, loc, scale))
    back = to_numpy(numerics.normal_quantile(p, loc, scale))
    # Near 1 a probability holds few digits of its tail.
    np.testing.assert_allclose(back, y, rtol=1e-9, atol=1e-8 * scale.max())


def kl_exact(loc, scale, prior_loc, prior_scale):
    r, z = scale / prior_scale, (loc - prior_loc) / prior_scale
    logs = abs(mp.log(scale)) + abs(mp.log(prior_scale))
    value = (r**2 + z**2 - 1) / 2 - mp.log(r)
    return [
        (value, 8 * (r**2 + z**2 + logs + 1) + flush(prior_scale) * abs(z)),
        (z / prior_scale, 8 * abs(z) / prior_scale + flush(prior_scale) / prior_scale),
        (r / prior_scale - 1 / scale, 16 * (r / prior_scale + 1 / scale)),
        (
            -z / prior_scale,
            8 * abs(z) / prior_scale + flush(prior_scale) / prior_scale,
        ),
        (
            (1 - r**2 - z**2) / prior_scale,
            16 * (1 + r**2 + z**2) / prior_scale
            + flush(prior_scale) * abs(z) / prior_scale,
            r**2 + z**2,
        ),
    ]


@st.composite
def pairs_of_normals(draw):
    dtype = draw(dtypes())
    rows = [
        (
            draw(reals(dtype)),
            draw(positives(dtype, -30, 30)),
            draw(reals(dtype)),
            draw(positives(dtype, -30, 30)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return dtype, rows


@given(pairs_of_normals())
def test_kl(case):
    dtype, rows = case
    check_function(numerics.normal_kl, kl_exact, rows, dtype)


@given(reals("float32", -5, 5), positives("float32", -5, 5))
def test_kl_of_a_distribution_with_itself_is_zero(loc, scale):
    loc, scale = np.float64(loc), np.float64(scale)
    assert abs(float(numerics.normal_kl(loc, scale, loc, scale))) < 1e-13


def test_against_tfp():
    rng = np.random.default_rng(0)
    y, loc = rng.normal(size=(2, 50))
    scale = np.exp(rng.normal(size=50))
    law = tfp.distributions.Normal(loc, scale)
    other = tfp.distributions.Normal(np.float64(0), np.float64(1))
    twins = [
        (numerics.normal_log_prob(y, loc, scale), law.log_prob(y)),
        (numerics.normal_cdf(y, loc, scale), law.cdf(y)),
        (numerics.normal_quantile(0.3, loc, scale), law.quantile(0.3)),
        (numerics.normal_kl(loc, scale), law.kl_divergence(other)),
    ]
    for ours, theirs in twins:
        np.testing.assert_allclose(to_numpy(ours), theirs.numpy(), rtol=1e-12)


FUNCTIONS = [
    numerics.normal_log_prob,
    numerics.normal_cdf,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_nan_stays_in_its_own_element(function):
    y = np.array([0.5, np.nan, -1.0], dtype="float32")
    value, (gradient, *_) = value_and_gradients(
        function, y, np.full(3, 0.1, "float32"), np.ones(3, "float32")
    )
    assert np.isnan(value).tolist() == [False, True, False]
    assert np.isfinite(gradient[[0, 2]]).all()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_scale_that_is_not_positive_gives_nan(function):
    value = to_numpy(function(np.array([0.5, 0.5]), 0.0, np.array([-1.0, 1.0])))
    assert np.isnan(value).tolist() == [True, False]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar_shapes(function, shape):
    value = function(*(np.full(shape, v, "float32") for v in (0.5, 0.0, 1.0)))
    assert tuple(value.shape) == shape


@given(st.floats(-1e4, 40))
def test_log_ndtr(z):
    got = float(to_numpy(numerics.log_ndtr(np.array([z])))[0])
    tolerance = 1e-13 if has_float64() else 2e-6
    assert abs(got - scipy.special.log_ndtr(z)) <= tolerance * max(
        1, abs(scipy.special.log_ndtr(z))
    )


@pytest.mark.parametrize("dtype", ["float32", *["float64"] * has_float64()])
def test_the_slope_of_the_scaled_tail_keeps_its_digits(dtype):
    """`phi / Phi + z` cancels far below 0, where it is about `-1 / z`."""
    z = -np.geomspace(0.1, 1e6, 200).astype(dtype)
    _, (slope,) = value_and_gradients(lambda z: log_ndtr_scaled(z), z)
    eps = np.finfo(dtype).eps
    with mp.workdps(60):
        for at, got in zip(z.tolist(), slope.tolist(), strict=True):
            exact = mp.npdf(at) / mp.ncdf(at) + mp.mpf(at)
            # Where the large terms are taken apart, they are below 7.
            lost = 8 * eps * abs(at) if at > -7 else 0
            assert abs(got - exact) <= 16 * eps * exact + lost, at
