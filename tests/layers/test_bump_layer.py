import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from strategies import positives
from strategies import reals

import keras_uq_layers as uq


def layer_with(sigma, **kwargs):
    return uq.BumpLayer(
        sigma_initializer=keras.initializers.Constant(sigma),
        sigma_constraint=None,
        **kwargs,
    )


def step(layer, x, y):
    """One step of SGD with rate 1; the change of sigma is its gradient."""
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=True)
    model.build(x.shape)
    before = to_numpy(layer.sigma)
    loss = model.train_on_batch(x, y)
    return float(loss), before - to_numpy(layer.sigma)


@pytest.mark.parametrize("profile", ["smooth", "threshold"])
@given(
    sigma=st.one_of(st.just(0.0), positives("float32", -30, 30)),
    values=st.lists(reals("float32", -30, 30), min_size=3, max_size=3),
)
def test_training_is_finite_for_any_input_and_sigma(profile, sigma, values):
    x = np.array([[*values, 0.5 * sigma]], "float32")
    loss, gradient = step(layer_with(sigma, profile=profile), x, np.full((1, 4), 0.1))
    assert np.isfinite(loss)
    assert not np.isnan(gradient)
    if sigma == 0:
        assert gradient == 0
    elif 1e-20 < sigma < 1:
        # A step smaller than half an ulp of sigma could not be seen.
        assert gradient != 0, "an input inside the support moves sigma"


def test_outside_of_the_support_nothing_is_learned():
    _, gradient = step(layer_with(0.1), np.full((1, 3), 2.0), np.ones((1, 3)))
    assert gradient == 0


def test_a_constrained_sigma_recovers_from_a_bad_batch():
    layer = uq.BumpLayer(sigma_initializer=keras.initializers.Constant(0.05))
    model = keras.Sequential([layer])
    x = np.random.default_rng(0).uniform(-1, 1, (20_000, 1)).astype("float32")
    y = to_numpy(uq.numerics.bump(x, 0.5))
    model.compile(keras.optimizers.Adam(1e-2), loss="mse")
    model.build(x.shape)
    layer.sigma.assign(1e-3)
    model.fit(x, y, batch_size=200, epochs=3, verbose=0)
    assert abs(float(to_numpy(layer.sigma)) - 0.5) < 0.01


def test_the_constraint_acts_after_a_step():
    layer = uq.BumpLayer(min_sigma=0.2, sigma_initializer="ones")
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(1e4), loss="mse")
    model.train_on_batch(np.full((1, 1), 0.5), np.zeros((1, 1)))
    np.testing.assert_allclose(to_numpy(layer.sigma), 0.2)


def test_per_feature_and_integers():
    layer = uq.BumpLayer(per_feature=True)
    x = np.array([[0, 1, 2]])
    layer.build(x.shape)
    layer.sigma.assign([1.0, 2.0, 4.0])
    expected = uq.numerics.bump(
        x.astype("float32"), np.array([1.0, 2.0, 4.0], "float32")
    )
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(expected))


def test_a_mask_passes_through():
    model = keras.Sequential([keras.layers.Masking(0.0), uq.BumpLayer()])
    output = model(np.array([[[0.5], [0.0]]]))
    assert to_numpy(output._keras_mask).tolist() == [[True, False]]


def test_the_constraint_is_kept_in_the_config():
    layer = uq.BumpLayer(sigma_constraint=uq.constraints.MinValue(0.5))
    assert (
        uq.BumpLayer.from_config(layer.get_config()).sigma_constraint.min_value == 0.5
    )
    free = uq.BumpLayer(sigma_constraint=None)
    assert uq.BumpLayer.from_config(free.get_config()).sigma_constraint is None


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        (
            {"profile": "round"},
            "`profile` must be one of 'smooth', 'threshold'. Received",
        ),
        ({"min_sigma": 0.0}, "`min_sigma` must be a positive finite number. Received"),
        ({"min_sigma": float("nan")}, "`min_sigma` must be a positive finite number"),
        ({"per_feature": 1}, "`per_feature` must be True or False. Received"),
    ],
)
def test_bad_arguments(kwargs, text):
    with pytest.raises(ValueError, match=text):
        uq.BumpLayer(**kwargs)


def test_an_unknown_last_axis():
    with pytest.raises(
        ValueError, match="the last axis of the input must have a known"
    ):
        uq.BumpLayer(per_feature=True).build((None, None))


@pytest.mark.parametrize("value", [-1.0, float("inf"), "1", None])
def test_min_value_checks_its_argument(value):
    with pytest.raises(ValueError, match="`min_value` must be a non-negative finite"):
        uq.constraints.MinValue(value)
