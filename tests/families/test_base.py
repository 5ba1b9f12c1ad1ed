"""Each family of this file's list against SciPy, TFP and its own definition."""

import keras
import numpy as np
import pytest
import scipy.stats
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from strategies import arrays
from strategies import positives
from strategies import reals

import keras_uq_layers as uq
from keras_uq_layers import families

FAMILIES = [families.Normal(), families.Laplace()]
SCIPY = {"normal": scipy.stats.norm, "laplace": scipy.stats.laplace}

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def random_params(shape, units, seed=0):
    rng = np.random.default_rng(seed)
    loc = rng.normal(size=(*shape, units))
    scale = np.exp(rng.normal(size=(*shape, units)))
    return np.concatenate([loc, scale], axis=-1), loc, scale


@each_family
@given(shape=st.sampled_from([(4,), (2, 3), (2, 1, 3), (0,)]), units=st.integers(1, 3))
def test_against_scipy(family, shape, units):
    params, loc, scale = random_params(shape, units)
    y = np.random.default_rng(1).normal(size=(*shape, units))
    law = SCIPY[family.name](loc, scale)
    pairs = [
        (family.marginal_log_prob(y, params), law.logpdf(y)),
        (family.log_prob(y, params), law.logpdf(y).sum(-1)),
        (family.mean(params), law.mean()),
        (family.variance(params), law.var()),
        (family.cdf(y, params), law.cdf(y)),
        (family.quantile(0.3, params), law.ppf(0.3)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(to_numpy(ours), theirs, rtol=1e-10, atol=1e-12)


@each_family
def test_the_tfp_twin(family):
    params, loc, _ = random_params((4, 2), 3)
    y = loc + 0.3
    law = uq.to_tfp(params, family)
    assert law.batch_shape == (4, 2)
    assert law.event_shape == (3,)
    np.testing.assert_allclose(
        to_numpy(family.log_prob(y, params)), law.log_prob(y).numpy(), rtol=1e-12
    )
    np.testing.assert_allclose(to_numpy(family.mean(params)), law.mean().numpy())
    np.testing.assert_allclose(
        to_numpy(family.variance(params)), law.variance().numpy(), rtol=1e-12
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="gradients need TensorFlow tensors"
)
def test_gradients_flow_through_the_bridge():
    params, loc, _ = random_params((4,), 1)
    params, y = params.astype("float32"), (loc + 0.3).astype("float32")
    _, (theirs,) = value_and_gradients(
        lambda p: uq.to_tfp(p, "normal").log_prob(y), params
    )
    _, (ours,) = value_and_gradients(lambda p: families.Normal().log_prob(y, p), params)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_to_tfp_reads_the_family_of_the_head():
    params = uq.DistributionHead(1, "laplace")(np.ones((2, 3), "float32"))
    assert "Laplace" in repr(uq.to_tfp(params))
    numbers = uq.to_tfp(to_numpy(params), families.Interval("laplace"))
    assert "Laplace" in repr(numbers)  # that of the numbers in the intervals
    with pytest.raises(ValueError, match="`family` must be given"):
        uq.to_tfp(np.array([[0.0, 1.0]]))


def test_to_tfp_takes_lists_and_half_precision():
    assert uq.to_tfp([[0.0, 1.0]], "normal").mean().shape == (1, 1)
    half = keras.ops.cast(np.array([[0.0, 1.0]]), "float16")
    assert uq.to_tfp(half, "normal").mean().dtype == "float32"


@each_family
def test_samples_have_the_moments(family):
    params, loc, scale = random_params((2,), 2)
    n = 20_000
    draws = to_numpy(family.sample(params, (n,), seed=0))
    assert draws.shape == (n, 2, 2)
    law = SCIPY[family.name](loc, scale)
    error = law.std() / np.sqrt(n)
    assert (np.abs(draws.mean(0) - law.mean()) < 4 * error).all()
    spread = (draws - law.mean()) ** 2
    spread_error = spread.std(0) / np.sqrt(n)
    assert (np.abs(spread.mean(0) - law.var()) < 4 * spread_error).all()
    one = SCIPY[family.name](loc[0, 0], scale[0, 0])
    assert scipy.stats.kstest(draws[:, 0, 0], one.cdf).pvalue > 1e-3


@each_family
def test_sampling_is_a_function_of_seed_or_noise(family):
    params, _, _ = random_params((3,), 2)
    a, b = (to_numpy(family.sample(params, seed=3)) for _ in range(2))
    assert (a == b).all()
    noise = family.draw_noise((3, 2), seed=3, dtype="float64")
    np.testing.assert_array_equal(to_numpy(family.sample(params, noise=noise)), a)
    with pytest.raises(ValueError, match="either `seed` or `noise`"):
        family.sample(params, seed=3, noise=noise)


@each_family
def test_the_draw_is_differentiable(family):
    params, _, _ = random_params((50,), 1)
    _, (gradient,) = value_and_gradients(lambda p: family.sample(p, seed=0), params)
    np.testing.assert_allclose(gradient[:, 0], 1.0)
    assert (gradient[:, 1] != 0).all()


@each_family
@given(data=st.data(), floor=st.sampled_from([1e-6, 1e-3, 0.5]))
def test_constrained_params_are_in_range_with_live_gradients(family, data, floor):
    features = data.draw(arrays(reals("float32", -30, 30), "float32", min_dims=1))
    features = np.concatenate([features, features], axis=-1)
    if features.shape[-1] == 0:
        return
    params, (gradient,) = value_and_gradients(
        lambda f: family.constrain(f, floor), features
    )
    loc, scale = np.split(params, 2, axis=-1)
    assert (loc == np.split(features, 2, axis=-1)[0]).all()
    assert (scale >= np.float32(floor)).all()
    assert np.isfinite(gradient).all()
    assert (gradient[features > -80] > 0).all()


@each_family
@given(scale=positives("float32", -2, 4))
def test_the_initial_features_give_the_initial_scale(family, scale):
    features = family.initial_features(2, scale, scale_floor=1e-3)
    params = family.constrain(features, 1e-3)
    np.testing.assert_allclose(to_numpy(family.mean(params)), 0.0)
    np.testing.assert_allclose(
        to_numpy(family.variance(params)) ** 0.5, scale, rtol=1e-4
    )


@each_family
@given(shift=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_the_affine_map_is_that_of_the_variable(family, shift, factor):
    params, loc, _ = random_params((3,), 2)
    y = loc + 0.4
    moved = family.affine(params, shift, factor)
    np.testing.assert_allclose(
        to_numpy(family.marginal_log_prob(shift + factor * y, moved)),
        to_numpy(family.marginal_log_prob(y, params)) - np.log(factor),
        rtol=1e-9,
        atol=1e-9,
    )


@each_family
def test_half_precision_is_widened(family):
    params = keras.ops.cast(np.array([[0.1, 0.5]]), "float16")
    y = keras.ops.cast(np.array([[0.1]]), "float16")
    for result in (family.log_prob(y, params), family.crps(y, params)):
        assert keras.backend.standardize_dtype(result.dtype) == "float32"


class TestLayout:
    def test_params_size_and_back(self):
        family = families.Normal()
        assert family.params_size(3) == 6
        assert family.units(6) == 3

    @pytest.mark.parametrize("size", [None, 0, 1, 3, 5])
    def test_a_last_axis_that_does_not_divide(self, size):
        with pytest.raises(
            ValueError,
            match=rf"2 blocks \(loc, scale\).* Received: a last axis of size {size}",
        ):
            families.Normal().units(size)

    @pytest.mark.parametrize("units", [0, -1, 1.5, "3", None, True])
    def test_units_that_are_no_positive_integer(self, units):
        with pytest.raises(ValueError, match="`units` must be a positive integer"):
            families.Normal().params_size(units)

    @pytest.mark.parametrize(
        ("y_shape", "params_shape"),
        [((4,), (4, 2)), ((4, 1), (4, 2)), ((4, 7), (4, 7, 2)), ((4, 3), (4, 6))],
    )
    def test_y_that_agrees(self, y_shape, params_shape):
        y = families.Normal().align(np.ones(y_shape), np.ones(params_shape))
        assert tuple(y.shape) == (*params_shape[:-1], params_shape[-1] // 2)

    @pytest.mark.parametrize(
        ("y_shape", "params_shape"),
        [
            ((4,), (4, 6)),
            ((4, 2), (4, 2)),
            ((1,), (4, 2)),
            ((1, 1), (4, 2)),
            ((4, 1), (4, 6)),
            ((4, 4), (4, 2)),
            ((4, 1, 1), (4, 2)),
            ((), (4, 2)),
        ],
    )
    def test_y_that_does_not_agree(self, y_shape, params_shape):
        with pytest.raises(ValueError, match="`y` must have shape") as error:
            families.Normal().log_prob(np.ones(y_shape), np.ones(params_shape))
        assert str(y_shape) in str(error.value)
        assert str(params_shape) in str(error.value)


class TestLookUp:
    @each_family
    def test_by_name_object_and_config(self, family):
        assert families.get(family.name) == family
        assert families.get(family) is family
        assert families.get(families.serialize(family)) == family

    @pytest.mark.parametrize("identifier", ["gauss", None, 3, ["normal"]])
    def test_an_unknown_family_lists_those_there_are(self, identifier):
        with pytest.raises(
            ValueError, match=r"'laplace'.*'normal'.* Received: family="
        ):
            families.get(identifier)

    def test_equality_and_hash(self):
        assert families.Normal() == families.Normal()
        assert families.Normal() != families.Laplace()
        assert len({families.Normal(), families.Normal()}) == 1
        assert repr(families.Normal()) == "Normal()"

    def test_what_a_family_lacks_is_named(self):
        with pytest.raises(
            NotImplementedError, match="'family' does not implement `crps`"
        ):
            families.Family().crps(np.ones(1), np.ones(1))
