"""The maps from features to loc and scale: exact, finite, alive, and saved."""

import keras
import ml_dtypes
import mpmath as mp
import numpy as np
import pytest
from backend import has_float64
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracle import check_function
from strategies import ALL_DTYPES
from strategies import dtypes
from strategies import positives
from strategies import reals

import keras_uq_layers as uq
from keras_uq_layers import families
from keras_uq_layers.families._parameterizations import PARAMETERIZATIONS
from keras_uq_layers.numerics import widen

HAVING = [
    *(
        family
        for family in map(families.get, families._BY_NAME)
        if family.parameterizations
    ),
    families.StudentT(df=4.0),
]
each_family = pytest.mark.parametrize("family", HAVING, ids=repr)
each_name = pytest.mark.parametrize("name", PARAMETERIZATIONS)
ROWS = 6
ONE = mp.mpf(float(np.log(np.e - 1)))


def softplus(x):
    return mp.log1p(mp.exp(x)) if x < 200 else x


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def precision_ratio(s):
    """The ratio, and the slope of its logarithm."""
    root = mp.sqrt(s * s + 4)
    # The larger one of the precision and its inverse: the other one cancels.
    ratio = mp.sqrt((abs(s) + root) / 2)
    return (1 / ratio if s > 0 else ratio), -1 / (2 * root)


def ratio_exact(name):
    def exact(_, s):
        if name == "scale":
            raw = s + ONE
            condition = 8 * (1 + abs(raw) * (raw < 0))
            value, slope = softplus(raw), sigmoid(raw)
        else:
            condition = 32
            value, slope = precision_ratio(s)
            slope *= value
        return [
            (value, condition * value),
            (0, 0),
            # A power of a small ratio may be flushed to zero.
            (slope, (condition * abs(slope), 1 + value)),
        ]

    return exact


def loc_exact(name):
    def exact(location, s):
        if name == "scale":
            return [(location, 0), (1, 0), (0, 0)]
        ratio, slope = precision_ratio(s)
        value = location * ratio
        per_s = value * slope
        return [
            (value, 32 * abs(value)),
            (ratio, 32 * ratio),
            (per_s, (32 * abs(per_s), 4 * (1 + abs(location)))),
        ]

    return exact


def part(name, which):
    def function(location, s):
        location, s = widen(location, s)
        # A tensor that does not enter a part has no gradient: its sign has 0.
        zero = 0.0 * (ops.sign(location) + ops.sign(s))
        return PARAMETERIZATIONS[name](location, s)[which] + zero

    return function


@st.composite
def features(draw):
    """A dtype, and rows of two features from the whole range of the dtype.

    Always as many rows: JAX compiles each operation for each shape.
    """
    dtype = draw(dtypes())
    row = st.tuples(reals(dtype), reals(dtype) | st.floats(-60.0, 60.0))
    return dtype, draw(st.lists(row, min_size=ROWS, max_size=ROWS))


@each_name
@given(features())
def test_exact(name, case):
    dtype, rows = case
    check_function(part(name, 0), loc_exact(name), rows, dtype)
    check_function(part(name, 1), ratio_exact(name), rows, dtype)


# The largest scale in units of the initial one, by the largest feature.
LARGEST = {"scale": lambda feature: feature, "signal_to_noise": np.sqrt}


@each_name
@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_the_smallest_and_the_largest_scale(name, dtype):
    if dtype == "float64" and not has_float64():
        pytest.skip("JAX has no float64 unless told so")
    largest = float(ml_dtypes.finfo(dtype).max)
    ends = np.resize([[0.5, -largest], [0.5, largest]], (ROWS, 2)).astype(dtype)
    params, (gradient,) = value_and_gradients(
        lambda f: families.Normal().parameterize(f, name, 1.0, 1e-3), ends
    )
    assert np.isfinite(params).all()
    assert np.isfinite(gradient).all()
    top = 0.999 * LARGEST[name](largest)
    np.testing.assert_allclose(params[:, 1].max(), top, rtol=1e-2)
    # In half precision a precision of the largest feature is not 0 yet.
    smallest = 1e-3 + (largest**-0.5 if name == "signal_to_noise" else 0.0)
    np.testing.assert_allclose(params[:, 1].min(), smallest, rtol=1e-2)


@each_family
@given(
    start=positives("float32", -2, 4),
    floor=st.sampled_from([1e-6, 1e-3]),
    name=st.sampled_from(sorted(PARAMETERIZATIONS)),
)
def test_features_of_zero_give_the_initial_distribution(family, name, start, floor):
    zeros = np.zeros((1, family.params_size(2)), "float32")
    parts = family.split(family.parameterize(zeros, name, start, floor))
    expected = family.initial_parts(start)
    for got, wanted in zip(parts, expected, strict=True):
        np.testing.assert_allclose(to_numpy(got), wanted, rtol=1e-5)


@pytest.mark.parametrize("family", [families.Normal(), families.StudentT()], ids=repr)
@each_name
@given(case=features())
def test_the_range_and_live_gradients(family, name, case):
    dtype, rows = case
    columns = np.array(rows).astype(dtype)
    df = np.zeros((len(rows), family.params_size(1) - 2), dtype)
    params, (gradient,) = value_and_gradients(
        lambda f: family.parameterize(f, name, 2.0, 1e-3),
        np.concatenate([columns, df], axis=1),
    )
    scale = params[:, 1]
    assert (scale >= 1e-3 * (1 - 1e-6)).all()
    if name != "scale":
        assert np.isfinite(scale).all()
    assert not np.isnan(params).any()
    assert not np.isnan(gradient).any()
    # The gradient of loc and scale lives where the map is not at one of its ends.
    middle = np.abs(columns.astype("float64")) < 8
    assert (gradient[:, 1][middle.all(axis=1)] != 0).all()


def test_an_uncertain_row_counts_less_by_its_scale_and_not_by_its_square():
    """d NLL / d l is `(loc - y) / scale`: a bad fit is not forgotten as fast."""
    rng = np.random.default_rng(0)
    y, location, spread = rng.normal(size=(3, ROWS)).astype("float32")

    def params(a, b):
        features = ops.stack([a, b], axis=-1)
        return families.Normal().parameterize(features, "signal_to_noise", 1.0, 0.0)

    values, _ = value_and_gradients(params, location, spread)
    _, (pull, _) = value_and_gradients(
        lambda a, b: -families.Normal().log_prob(y[:, None], params(a, b)),
        location,
        spread,
    )
    np.testing.assert_allclose(pull, (values[:, 0] - y) / values[:, 1], rtol=1e-4)


class TestTheChoice:
    def test_the_default_of_each_family(self):
        for name in families._BY_NAME:
            head = uq.DistributionHead(2, name)
            options = head.family.parameterizations
            assert head.parameterization == (options[0] if options else None)
            assert head.get_config()["parameterization"] == head.parameterization

    def test_an_unknown_name(self):
        with pytest.raises(
            ValueError,
            match=r"`parameterization` must be one of 'signal_to_noise', 'scale'. "
            "Received: parameterization='variance'",
        ):
            uq.DistributionHead(1, parameterization="variance")

    def test_a_family_without_a_choice(self):
        with pytest.raises(
            ValueError,
            match=r"`parameterization` must be None for the family 'gamma'; families "
            "with a choice are 'normal', 'laplace', .*'student_t'.*"
            "Received: parameterization='scale'",
        ):
            uq.DistributionHead(1, "gamma", parameterization="scale")

    @each_name
    def test_it_is_saved(self, name, tmp_path):
        head = uq.DistributionHead(2, parameterization=name, initial_scale=3.0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), head])
        x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
        model.layers[-1].dense.kernel.assign(np.full((4, 4), 0.3))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.layers[-1].parameterization == name
        np.testing.assert_array_equal(
            loaded.predict(x, verbose=0), model.predict(x, verbose=0)
        )
