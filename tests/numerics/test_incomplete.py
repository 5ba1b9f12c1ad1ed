"""The incomplete gamma and beta functions, against SciPy and mpmath."""

import mpmath as mp
import numpy as np
import pytest
import scipy.special as sp
from backend import needs_float64
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES
from strategies import dtypes

import keras_uq_layers as uq
from keras_uq_layers import numerics
from keras_uq_layers.numerics.betainc import betainc_tails

EXPONENT = st.floats(-2, 7)
# Standard deviations from the mean.
DISTANCE = st.floats(-4, 4)


@given(dtypes(DTYPES), EXPONENT, EXPONENT, DISTANCE)
@example("float32", 12.5, 0.2, 0.3)  # float32 has no products of 1 / a^2
@example("float32", 0.3, 14.0, -0.4)
def test_betainc(dtype, a, b, distance):
    a, b = (np.array(10.0**v).astype(dtype) for v in (a, b))
    p, q = float(a), float(b)
    deviation = np.sqrt(p * q / (p + q + 1)) / (p + q)
    # Each of x and 1 - x from the difference that does not cancel.
    x, rest = p / (p + q) + distance * deviation, q / (p + q) - distance * deviation
    if min(x, rest) < 1e-30:
        return
    if x < rest:
        x = np.array(x).astype(dtype)
        rest = 1.0 - x.astype("float64")
    else:
        rest = np.array(rest).astype(dtype)
        x = 1.0 - rest.astype("float64")
    lower, upper = betainc_tails(a, b, x.astype(dtype), rest.astype(dtype))
    x, rest = float(x), float(rest)  # SciPy has a loop in float32
    exact_lower, exact_upper = sp.betainc(p, q, x), sp.betainc(q, p, rest)
    if x < rest:
        exact_upper = sp.betaincc(p, q, x)
    else:
        exact_lower = sp.betaincc(q, p, rest)
    # What a relative error of x changes in the logarithm of the tail.
    condition = 10.0 + (1.0 + abs(distance)) * np.sqrt(min(p, q))
    allowed = 16 * np.finfo(dtype).eps * condition
    # With a parameter below 1 the tail that is taken as the rest of the other may
    # be the smaller one: its error is absolute.
    absolute = 16 * np.finfo(dtype).eps if min(p, q) < 1 else 1e-30
    for got, exact in ((lower, exact_lower), (upper, exact_upper)):
        assert abs(float(to_numpy(got)) - exact) <= allowed * exact + absolute


@given(dtypes(DTYPES), EXPONENT, DISTANCE)
@example("float32", -2.0, 1.0)  # gammaincc(0.01, 0.11): 1 - lower has lost it
@example("float32", -6.0, 1.0)  # lgamma(1 + a) is off by 5e-7 on JAX
def test_gammainc(dtype, a, distance):
    a = np.array(10.0**a).astype(dtype)
    x = np.array(max(a + distance * np.sqrt(a), a * 0.1)).astype(dtype)
    condition = 10.0 + (1.0 + abs(distance)) * np.sqrt(float(a))
    allowed = 16 * np.finfo(dtype).eps * condition
    k, at = float(a), float(x)
    for function, exact in (
        (numerics.gammainc, sp.gammainc(k, at)),
        (numerics.gammaincc, sp.gammaincc(k, at)),
    ):
        assert abs(float(to_numpy(function(a, x))) - exact) <= allowed * exact + 1e-30


@pytest.mark.parametrize("a", [0.01, 0.7, 3.0, 99.0, 101.0, 2e4])
@pytest.mark.parametrize("distance", [-3.0, -0.1, 2.0])
def test_gradients_of_gammainc(a, distance):
    x = max(a + distance * a**0.5, 0.05 * a)
    a, x = np.array([a], "float32"), np.array([x], "float32")
    k, at = mp.mpf(float(a[0])), mp.mpf(float(x[0]))
    with mp.workdps(40):
        step = k * mp.mpf(10) ** -12

        def exact(k):
            return mp.gammainc(k, 0, at, regularized=True)

        by_a = float((exact(k + step) - exact(k - step)) / (2 * step))
        by_x = float(mp.exp((k - 1) * mp.log(at) - at - mp.loggamma(k)))
    for function, sign in ((numerics.gammainc, 1), (numerics.gammaincc, -1)):
        _, gradients = value_and_gradients(function, a, x)
        np.testing.assert_allclose(gradients[0], sign * by_a, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(gradients[1], sign * by_x, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [(800.0, 2e4), (1e5, 1e5), (0.7, 8e5), (3e3, 5.0)])
@pytest.mark.parametrize("distance", [-2.0, 0.1, 2.0])
def test_gradients_of_betainc_at_large_arguments(a, b, distance):
    deviation = np.sqrt(a * b / (a + b + 1)) / (a + b)
    x = np.clip(a / (a + b) + distance * deviation, 1e-3 / (a + b), 1.0 - 1e-5)
    arguments = [np.array([v], "float32") for v in (a, b, x)]
    point = [float(v[0]) for v in arguments]
    _, gradients = value_and_gradients(numerics.betainc, *arguments)
    for j, gradient in enumerate(gradients):
        # The scale over which the function varies.
        step = 1e-4 * (np.sqrt(point[j]) if j < 2 and point[j] > 1 else point[j])
        step = 1e-4 * min(deviation, point[2], 1 - point[2]) if j == 2 else step
        up, down = list(point), list(point)
        up[j] += step
        down[j] -= step
        slope = (sp.betainc(*up) - sp.betainc(*down)) / (2 * step)
        np.testing.assert_allclose(gradient[0], slope, rtol=5e-3)


@pytest.mark.parametrize("x", [0.0, 1e-30, 1e30, 3e38])
@pytest.mark.parametrize("a", [1e-6, 1.0, 1e6, 1e30])
def test_ends(a, x):
    a, x = np.array([a], "float32"), np.array([x], "float32")
    for function in (numerics.gammainc, numerics.gammaincc):
        value, gradients = value_and_gradients(
            lambda a, x, function=function: function(a, x), a, np.minimum(x, 1e30)
        )
        assert 0 <= value[0] <= 1
        assert not np.isnan(gradients).any()


@needs_float64
def test_no_slope_of_betainc_is_nan():
    """Where the square of a parameter, or of its inverse, leaves float32."""
    a = np.array([1.7, 2.0, 7e-20, 1e-25, 20.0], "float32")
    b = np.array([3.2e12, 1e14, 5.0, 2e4, 1e-21], "float32")
    x = np.array([1.1e-12, 3.1e-14, 0.3, 0.6, 0.5], "float32")
    value, gradients = value_and_gradients(
        lambda *v: betainc_tails(*v)[0], a, b, x, 1.0 - x
    )
    np.testing.assert_allclose(value, sp.betainc(*np.float64([a, b, x])), rtol=1e-5)
    assert np.isfinite(gradients).all()


def test_no_slope_of_a_certain_gamma_is_nan():
    """The slope of the quotient overflows where that of the function is 0."""
    y, params = np.array([[2.6e13]], "float32"), np.array([[1.3e-14, 6.9]], "float32")
    value, (gradient,) = value_and_gradients(
        lambda p: uq.families.Gamma().cdf(y, p), params
    )
    assert value == 1.0
    assert (gradient == 0.0).all()


def test_betainc_and_its_gradients():
    rng = np.random.default_rng(4)
    a, b = 10 ** rng.uniform(-2, 3, (2, 60))
    x = np.clip(rng.beta(a, b), 1e-6, 1 - 1e-6)
    value, gradients = value_and_gradients(numerics.betainc, a, b, x)
    np.testing.assert_allclose(value, sp.betainc(a, b, x), rtol=1e-9, atol=1e-12)
    for i in range(0, 60, 6):
        point = [a[i], b[i], x[i]]
        for j, gradient in enumerate(gradients):
            step = 1e-5 * (point[j] if j < 2 else min(x[i], 1 - x[i]))
            up, down = list(point), list(point)
            up[j] += step
            down[j] -= step
            slope = (sp.betainc(*up) - sp.betainc(*down)) / (2 * step)
            assert abs(gradient[i] - slope) < 1e-4 * abs(slope) + 1e-7
