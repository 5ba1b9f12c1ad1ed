"""The normal, the Laplace and the logistic, function by function, against mpmath."""

import keras
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from oracle import check_function
from oracle import flush
from oracle import of_parts
from strategies import dtypes
from strategies import location_scale
from strategies import positives
from strategies import probabilities
from strategies import reals

from keras_uq_layers import families

LAPLACE, NORMAL = families.Laplace(), families.Normal()
LOGISTIC = families.Logistic()


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


@given(st.one_of(location_scale(), location_scale(spread=30.0)))
# The quotient is flushed to 0, its sign must not be.
@example(("float32", [(1e-13, 0.0, 1e25), (-1e-13, 0.0, 1e25)]))
def test_laplace_log_prob(case):
    dtype, rows = case
    check_function(of_parts(LAPLACE, "marginal_log_prob"), log_prob_exact, rows, dtype)


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


@given(
    st.one_of(
        location_scale(low=-20, high=20), location_scale(spread=60.0, low=-20, high=20)
    )
)
def test_laplace_cdf(case):
    dtype, rows = case
    check_function(of_parts(LAPLACE, "cdf"), cdf_exact, rows, dtype)


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


@given(st.one_of(location_scale(), location_scale(spread=60.0)))
def test_laplace_crps(case):
    dtype, rows = case
    check_function(of_parts(LAPLACE, "crps"), crps_exact, rows, dtype)


@pytest.mark.parametrize(("y", "loc", "scale"), [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.7)])
def test_laplace_crps_is_the_integral_of_the_squared_cdf_error(y, loc, scale):
    law = scipy.stats.laplace(loc, scale)
    left = scipy.integrate.quad(lambda t: law.cdf(t) ** 2, -60, y, limit=200)[0]
    right = scipy.integrate.quad(lambda t: law.sf(t) ** 2, y, 60, limit=200)[0]
    # Arrays: PyTorch makes float32 of a number.
    value = of_parts(LAPLACE, "crps")(*np.array([[y], [loc], [scale]]))
    assert abs(float(value[0]) - left - right) < 1e-7


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
        min_size=4,
        max_size=4,
    ),
)
def test_laplace_quantile(dtype, rows):
    rows = [(float(np.float32(p)), loc, scale) for p, loc, scale in rows]
    check_function(of_parts(LAPLACE, "quantile"), quantile_exact, rows, dtype)


def test_laplace_slope_of_the_cdf_at_loc_is_the_density():
    one = np.ones(1, "float32")
    _, (slope, _, _) = value_and_gradients(
        of_parts(LAPLACE, "cdf"), 2 * one, 2 * one, one
    )
    assert slope[0] == 0.5


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="imports TensorFlow; the oracles above hold on each backend",
)
def test_laplace_against_tfp():
    import tensorflow_probability as tfp

    rng = np.random.default_rng(0)
    y, loc = rng.normal(size=(2, 50))
    scale = np.exp(rng.normal(size=50))
    law = tfp.distributions.Laplace(loc, scale)
    for ours, theirs in [
        (of_parts(LAPLACE, "marginal_log_prob")(y, loc, scale), law.log_prob(y)),
        (of_parts(LAPLACE, "cdf")(y, loc, scale), law.cdf(y)),
        (
            of_parts(LAPLACE, "quantile")(np.full(50, 0.3), loc, scale),
            law.quantile(np.float64(0.3)),
        ),
    ]:
        np.testing.assert_allclose(to_numpy(ours), theirs.numpy(), rtol=1e-12)


def logistic_log_prob_exact(y, loc, scale):
    z = (y - loc) / scale
    value = -2 * mp.log(2 * mp.cosh(z / 2)) - mp.log(scale)
    condition = 8 * (abs(z) + abs(mp.log(scale)) + 1) + flush(scale)
    slope = mp.tanh(z / 2) / scale
    slack = flush(scale) / scale
    return [
        (value, condition),
        (-slope, 16 * abs(slope) + slack),
        (slope, 16 * abs(slope) + slack),
        (z * slope - 1 / scale, 16 * (abs(z) + 1) / scale + slack, abs(z)),
    ]


@given(st.one_of(location_scale(), location_scale(spread=30.0)))
def test_logistic_log_prob(case):
    dtype, rows = case
    function = of_parts(LOGISTIC, "marginal_log_prob")
    check_function(function, logistic_log_prob_exact, rows, dtype)


def logistic_cdf_exact(y, loc, scale):
    z = (y - loc) / scale
    value = 1 / (1 + mp.exp(-z))
    tail = mp.exp(-abs(z)) / (1 + mp.exp(-abs(z)))
    slope = tail * (1 - tail) / scale
    per_loc = 16 * slope * (1 + abs(z)) + flush(scale) * slope
    return [
        (value, 8 * value * (1 + abs(z)) + flush(scale) * tail),
        (slope, per_loc),
        (-slope, per_loc),
        (-z * slope, per_loc * (1 + abs(z))),
    ]


@given(
    st.one_of(
        location_scale(low=-20, high=20), location_scale(spread=60.0, low=-20, high=20)
    )
)
def test_logistic_cdf(case):
    dtype, rows = case
    check_function(of_parts(LOGISTIC, "cdf"), logistic_cdf_exact, rows, dtype)


def logistic_crps_exact(y, loc, scale):
    z = abs(y - loc) / scale
    tail = mp.exp(-z)
    slope = mp.sign(y - loc) * mp.tanh(z / 2)
    per_scale = 2 * mp.log1p(tail) - 1 + 2 * z * tail / (1 + tail)
    return [
        (
            abs(y - loc) + scale * (2 * mp.log1p(tail) - 1),
            16 * (abs(y - loc) + scale),
        ),
        (slope, 16),
        (-slope, 16),
        (per_scale, 16 * (1 + z * tail)),
    ]


@given(st.one_of(location_scale(), location_scale(spread=60.0)))
def test_logistic_crps(case):
    dtype, rows = case
    check_function(of_parts(LOGISTIC, "crps"), logistic_crps_exact, rows, dtype)


def logistic_quantile_exact(p, loc, scale):
    z = mp.log(p / (1 - p))
    slope = scale / (p * (1 - p))
    return [
        (loc + scale * z, 8 * (abs(loc) + scale * abs(z))),
        (slope, 16 * slope),
        (mp.mpf(1), 1),
        (z, 8 * abs(z)),
    ]


@given(
    dtypes(("float32", "float64")),
    st.lists(
        st.tuples(
            probabilities(), reals("float32", -10, 10), positives("float32", -10, 10)
        ),
        min_size=4,
        max_size=4,
    ),
)
@example("float32", [(0.5, 3.0, 2.0)])  # the median is exactly loc
def test_logistic_quantile(dtype, rows):
    rows = [(float(np.float32(p)), loc, scale) for p, loc, scale in rows]
    check_function(of_parts(LOGISTIC, "quantile"), logistic_quantile_exact, rows, dtype)


def test_logistic_against_scipy():
    """The functions that the oracles above leave out."""
    params = np.array([[0.3, 2.0], [-4.0, 0.7]])
    law = scipy.stats.logistic(*params.T)
    for method, exact in (
        ("mean", law.mean()),
        ("variance", law.var()),
        ("entropy", law.entropy()),
    ):
        value = to_numpy(getattr(LOGISTIC, method)(params))[:, 0]
        np.testing.assert_allclose(value, exact, rtol=1e-6)


def normal_crps_exact(y, loc, scale):
    z = (y - loc) / scale
    value = scale * (z * mp.erf(z / mp.sqrt(2)) + 2 * mp.npdf(z) - 1 / mp.sqrt(mp.pi))
    slope = mp.erf(z / mp.sqrt(2))
    return [
        (value, 16 * (abs(y - loc) + scale)),
        (slope, 16),
        (-slope, 16),
        (2 * mp.npdf(z) - 1 / mp.sqrt(mp.pi), 64),
    ]


@given(st.one_of(location_scale(), location_scale(spread=60.0)))
def test_normal_crps(case):
    dtype, rows = case
    check_function(of_parts(NORMAL, "crps"), normal_crps_exact, rows, dtype)


@given(location_scale(spread=10.0, low=-10, high=10))
def test_normal_crps_is_positive_and_below_the_absolute_error(case):
    dtype, rows = case
    y, loc, scale = (np.array(c).astype(dtype) for c in zip(*rows, strict=True))
    value = to_numpy(of_parts(NORMAL, "crps")(y, loc, scale))
    assert (value > 0).all()
    distance = np.abs(y.astype("float64") - loc.astype("float64"))
    slack = 1e-5 * (distance + scale.astype("float64"))
    assert (value <= distance + 0.2337 * scale.astype("float64") + slack).all()


@pytest.mark.parametrize(("y", "loc", "scale"), [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.7)])
def test_normal_crps_is_the_integral_of_the_squared_cdf_error(y, loc, scale):
    law = scipy.stats.norm(loc, scale)
    left = scipy.integrate.quad(lambda t: law.cdf(t) ** 2, -40, y, epsabs=1e-12)[0]
    right = scipy.integrate.quad(lambda t: law.sf(t) ** 2, y, 40, epsabs=1e-12)[0]
    # Arrays: PyTorch makes float32 of a number.
    value = of_parts(NORMAL, "crps")(*np.array([[y], [loc], [scale]]))
    assert abs(float(value[0]) - left - right) < 1e-8


FUNCTIONS = [
    of_parts(NORMAL, "crps"),
    of_parts(LAPLACE, "marginal_log_prob"),
    of_parts(LAPLACE, "cdf"),
    of_parts(LAPLACE, "crps"),
    of_parts(LOGISTIC, "marginal_log_prob"),
    of_parts(LOGISTIC, "cdf"),
    of_parts(LOGISTIC, "crps"),
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
    value = to_numpy(function(np.full(2, 0.5), np.zeros(2), np.array([-1.0, 1.0])))
    assert np.isnan(value).tolist() == [True, False]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar_shapes(function, shape):
    value = function(*(np.full(shape, v, "float32") for v in (0.5, 0.0, 1.0)))
    assert tuple(value.shape) == shape
