import ml_dtypes
import mpmath as mp
import numpy as np
import pytest
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from oracle import check_function
from oracle import result_dtype
from strategies import arrays
from strategies import dtypes
from strategies import normalised
from strategies import positives
from strategies import reals

from keras_uq_layers import numerics

BUMPS = [numerics.bump, numerics.bump_threshold]


def exact_at(u):
    """Value and derivatives of `exp(-1 / (1 - u^2))`, 0 from |u| = 1 on."""
    if abs(u) >= 1:
        return [(mp.mpf(0), 0)] * 3
    t = 1 - u**2
    value = mp.exp(-1 / t)
    # u is rounded: its error passes to t, and from there to the exponent.
    condition = 8 * value * (1 + abs(u) / t**2)
    du = -2 * u * value / t**2
    per_u = 16 * (abs(du) * (1 + abs(u) / t**2) + abs(u) * value / t**3)
    return value, condition, du, per_u


def bump_exact(x, sigma):
    if abs(x) >= sigma:
        return [(mp.mpf(0), 0), (mp.mpf(0), 0), (mp.mpf(0), 0)]
    u = x / sigma
    value, condition, du, per_u = exact_at(u)
    return [
        (value, condition),
        (du / sigma, per_u / sigma),
        (-du * u / sigma, (per_u + abs(du)) / sigma),
    ]


def threshold_exact(x, sigma):
    if abs(x) >= min(sigma, mp.sqrt(sigma)):
        return [(mp.mpf(0), 0), (mp.mpf(0), 0), (mp.mpf(0), 0)]
    width = mp.sqrt(sigma)
    u = x / width
    value, condition, du, per_u = exact_at(u)
    return [
        (value, 2 * condition),
        (du / width, 2 * per_u / width),
        (-du * u / (2 * sigma), 2 * (per_u + abs(du)) / sigma),
    ]


@st.composite
def points(draw, root):
    dtype = draw(dtypes(("float32", "float64", "bfloat16", "float32")))
    rows = []
    for _ in range(5):  # JAX compiles each operation for each shape
        sigma = draw(positives(dtype, -30, 30))
        width = min(sigma, sigma**0.5) if root else sigma
        near = normalised(width * draw(st.floats(-1.1, 1.1)), dtype)
        rows.append((draw(st.one_of(reals(dtype), st.just(near))), sigma))
    return dtype, rows


def flushed(exact, dtype):
    """Within the last ulp of the support, and below the smallest normal
    number, the functions are 0 by their definition."""
    info = ml_dtypes.finfo(result_dtype(dtype))
    tiny, eps = mp.mpf(float(info.tiny)), float(info.eps)

    def function(x, sigma):
        pairs = exact(x, sigma)
        if pairs[0][0] < 2 * tiny:
            # Flushed, or about the exact number: nothing larger.
            return [(mp.mpf(0), 4 * abs(exact) / eps) for exact, _ in pairs]
        return pairs

    return function


@pytest.mark.parametrize(
    ("function", "exact", "root"),
    [
        (numerics.bump, bump_exact, False),
        (numerics.bump_threshold, threshold_exact, True),
    ],
    ids=["smooth", "threshold"],
)
@given(data=st.data())
def test_value_and_gradient(function, exact, root, data):
    dtype, rows = data.draw(points(root))
    if dtype == "bfloat16":
        # The value itself is rounded to bfloat16: compared in float32.
        rows = [
            tuple(float(np.array(v).astype("bfloat16").astype("float64")) for v in row)
            for row in rows
        ]
        dtype = "float32"
    check_function(function, flushed(exact, dtype), rows, dtype)


@pytest.mark.parametrize("function", BUMPS)
@given(data=st.data())
def test_finite_for_every_finite_input_and_sigma(function, data):
    dtype = data.draw(dtypes())
    x = data.draw(arrays(reals(dtype), dtype))
    wide = result_dtype(dtype)
    ends = st.sampled_from([0.0, -1.0, 1e-30, 1e30])
    sigma = np.array(data.draw(st.one_of(reals(wide), ends)), dtype=wide)
    value, (slope, _) = value_and_gradients(function, x, sigma)
    assert np.isfinite(value).all()
    assert ((value >= 0) & (value <= np.exp(-1) * (1 + 1e-2))).all()
    assert not np.isnan(slope).any()
    if sigma <= 0:
        assert (value == 0).all()
        assert (slope == 0).all()


@given(x=st.floats(-1.5, 1.5))
def test_the_profiles_agree_at_sigma_one(x):
    x = np.float64(x)
    one = np.float64(1.0)
    np.testing.assert_allclose(
        to_numpy(numerics.bump(x, one)),
        to_numpy(numerics.bump_threshold(x, one)),
        rtol=1e-12,
    )


@given(x=st.floats(-2, 2), sigma=st.floats(0.1, 10), factor=st.floats(0.1, 10))
def test_the_smooth_profile_depends_on_the_ratio_only(x, sigma, factor):
    a = to_numpy(numerics.bump(np.float64(x), np.float64(sigma)))
    b = to_numpy(numerics.bump(np.float64(factor * x), np.float64(factor * sigma)))
    assert abs(a - b) < 1e-10


@given(sigma=positives("float32", -20, 20))
def test_height_and_evenness(sigma):
    x = np.array([0.0, 0.4, -0.4]) * sigma
    value = to_numpy(numerics.bump(x.astype("float32"), np.float32(sigma)))
    assert abs(value[0] - np.exp(-1)) < 1e-7
    assert value[1] == value[2] < value[0]


@pytest.mark.parametrize("function", BUMPS)
def test_a_nan_stays_in_its_own_element(function):
    value = to_numpy(function(np.array([0.1, np.nan, 5.0, np.inf], "float32"), 1.0))
    assert np.isnan(value).tolist() == [False, True, False, False]
    assert (value[2:] == 0).all()


@pytest.mark.parametrize("function", BUMPS)
def test_a_nan_sigma_is_not_hidden(function):
    value = to_numpy(function(np.array([0.1, 5.0], "float32"), np.float32("nan")))
    assert np.isnan(value).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_result_has_the_dtype_of_the_input(dtype):
    import keras

    x = keras.ops.cast(np.array([0.1]), dtype)
    assert keras.backend.standardize_dtype(numerics.bump(x, 1.0).dtype) == dtype
    whole = numerics.bump(np.array([0, 1]), 2.0)
    assert keras.backend.standardize_dtype(whole.dtype) == "float32"
