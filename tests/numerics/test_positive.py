import mpmath as mp
import numpy as np
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracle import check_function
from strategies import positives
from strategies import probabilities
from strategies import reals

from keras_uq_layers import numerics


def softplus_exact(raw):
    value = mp.log1p(mp.exp(raw)) if raw < 50 else raw + mp.exp(-raw)
    slope = 1 / (1 + mp.exp(-raw))
    # In the lower tail the relative condition number is |raw|.
    condition = 8 * value * (1 + abs(raw) * (raw < 0))
    return [(value, condition), (slope, 8 * slope * (1 + abs(raw) * (raw < 0)))]


@given(st.lists(reals("float32", -30, 30), min_size=5, max_size=5))
def test_softplus_with_its_tail(values):
    check_function(numerics.positive, softplus_exact, [(v,) for v in values], "float32")


@given(value=positives("float64", -8, 8), floor=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]))
def test_the_inverse(value, floor):
    raw = numerics.positive_inverse(np.array(floor + value), floor)
    back = to_numpy(numerics.positive(raw, floor))
    np.testing.assert_allclose(back, floor + value, rtol=1e-7)


@given(raw=st.floats(-80, 1e30), floor=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_the_gradient_is_alive_at_the_floor(raw, floor):
    value, (slope,) = value_and_gradients(
        lambda r: numerics.positive(r, floor), np.array([raw], "float32")
    )
    assert value[0] >= floor
    assert 0 < slope[0] <= 1


def test_a_slope_that_underflows_meets_no_infinite_one():
    """The log density of a target far from `loc` has one, by a scale at its floor."""
    raw = np.array([-1e30, -200.0, -90.0], "float32")
    _, (slope,) = value_and_gradients(
        lambda r: ops.sqrt(numerics.positive(r, 1.0) - 1.0), raw
    )
    np.testing.assert_array_equal(slope, 0.0)


@given(p=probabilities())
def test_ndtri(p):
    got = float(to_numpy(numerics.ndtri(np.array(p))))
    exact = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1)
    assert abs(got - exact) <= 1e-13 * (1 + abs(exact)) + 1e-15 / float(
        mp.npdf(exact)
    ) * (p > 0.5)


@given(
    x=reals("float32", -30, 30),
    scale=positives("float32", -30, 30),
)
def test_divide(x, scale):
    def exact(x, scale):
        q = x / scale
        return [
            (q, 4 * abs(q)),
            (1 / scale, 4 / scale),
            (-q / scale, 8 * abs(q / scale), q),
        ]

    check_function(numerics.divide, exact, [(x, scale)], "float32")
