import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from strategies import positives
from strategies import reals

import keras_uq_layers as uq

tfd = tfp.distributions


def params(shape, units, seed=0):
    rng = np.random.default_rng(seed)
    loc = rng.normal(size=(*shape, units)).astype("float32")
    scale = np.exp(0.3 * rng.normal(size=(*shape, units))).astype("float32")
    return np.concatenate([loc, scale], -1), loc, scale


def exact_kl(loc, scale):
    return tfd.Normal(loc, scale).kl_divergence(tfd.Normal(0.0, 1.0)).numpy()


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_the_kl_is_summed_over_units_and_averaged_over_positions(shape):
    inputs, loc, scale = params(shape, 2)
    layer = uq.NormalSampling(kl_weight=0.5)
    layer(inputs)
    expected = 0.5 * exact_kl(loc, scale).sum(-1).mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)


def test_masked_positions_add_nothing_and_may_hold_anything():
    inputs, loc, scale = params((2, 3), 2)
    mask = np.array([[True, True, False], [True, False, False]])
    inputs[~mask] = np.nan
    layer = uq.NormalSampling()
    output = to_numpy(layer(inputs, mask=keras.ops.convert_to_tensor(mask)))
    expected = exact_kl(loc, scale).sum(-1)[mask].mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)
    assert (output[~mask] == 0).all()
    assert np.isfinite(output).all()


def test_the_draws_have_the_moments():
    inputs = np.tile(np.array([[1.0, -2.0, 0.5, 2.0]], "float32"), (40_000, 1))
    draws = to_numpy(uq.NormalSampling(seed=0)(inputs))
    error = np.array([0.5, 2.0]) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - [1.0, -2.0]) < 4 * error).all()
    assert (np.abs(draws.std(0) - [0.5, 2.0]) < 4 * error).all()


def test_sampling_at_inference_is_an_option():
    inputs, loc, _ = params((5,), 2)
    quiet = uq.NormalSampling(sample_at_inference=False)
    np.testing.assert_array_equal(to_numpy(quiet(inputs, training=False)), loc)
    assert (to_numpy(quiet(inputs, training=True)) != loc).any()
    assert len(quiet.losses) == 1
    assert (to_numpy(uq.NormalSampling()(inputs, training=False)) != loc).any()


def test_each_call_adds_its_own_term():
    inputs, _, _ = params((5,), 2)
    layer = uq.NormalSampling()
    x = keras.Input((4,))
    model = keras.Model(x, layer(x) + layer(2.0 * x))
    model(inputs)
    assert len(model.losses) == 2


def test_the_weight_changes_without_a_new_layer():
    inputs, loc, scale = params((5,), 2)
    layer = uq.NormalSampling(kl_weight=1.0)
    layer.build(inputs.shape)
    layer.kl_weight.assign(0.25)
    layer(inputs)
    expected = 0.25 * exact_kl(loc, scale).sum(-1).mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)


@given(
    loc=reals("float32", -30, 18),
    scale=positives("float32", -30, 18),
)
def test_finite_for_any_loc_and_scale(loc, scale):
    layer = uq.NormalSampling()
    output = layer(np.array([[loc, scale]], "float32"))
    assert np.isfinite(to_numpy(output)).all()
    assert np.isfinite(float(layer.losses[0]))
    assert float(layer.losses[0]) > -1e-4


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_draws_and_kl_stay_float32(policy):
    layer = uq.NormalSampling(dtype=policy)
    output = layer(np.array([[300.0, 1e-4]], "float32"))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert keras.backend.standardize_dtype(layer.losses[0].dtype) == "float32"
    assert float(layer.losses[0]) > 4e4


def test_reload_continues_the_stream(tmp_path):
    inputs, _, _ = params((5,), 2)
    model = keras.Sequential([uq.NormalSampling(seed=3)])
    first = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    second = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), second)
    assert (first != second).any()


@pytest.mark.parametrize("kl_weight", [-1.0, float("nan"), None, "1"])
def test_bad_weights(kl_weight):
    with pytest.raises(ValueError, match="`kl_weight` must be a non-negative finite"):
        uq.NormalSampling(kl_weight)


def test_an_odd_last_axis():
    with pytest.raises(ValueError, match="Received: a last axis of size 3"):
        uq.NormalSampling()(np.ones((2, 3)))


@given(st.integers(1, 3))
def test_a_mask_of_another_shape(extra):
    layer = uq.NormalSampling()
    with pytest.raises(ValueError, match="`mask` must"):
        layer(np.ones((2, 4)), mask=keras.ops.ones((2 + extra,)))
