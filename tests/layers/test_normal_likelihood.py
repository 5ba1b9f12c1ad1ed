import keras
import numpy as np
import pytest
import scipy.stats
from backend import steps_per_execution
from backend import to_numpy
from hypothesis import given
from strategies import positives
from strategies import reals

import keras_uq_layers as uq


def layer_with(loc, scale, **kwargs):
    constant = keras.initializers.Constant
    return uq.NormalLikelihood(
        loc_initializer=constant(loc), scale_initializer=constant(scale), **kwargs
    )


def test_value():
    x = np.random.default_rng(0).normal(size=(4, 5))
    law = scipy.stats.norm(0.5, 2.0)
    log_prob = to_numpy(layer_with(0.5, 2.0)(x))
    np.testing.assert_allclose(log_prob, law.logpdf(x), rtol=1e-5)
    prob = to_numpy(layer_with(0.5, 2.0, output="prob")(x))
    np.testing.assert_allclose(prob, law.pdf(x), rtol=1e-5)


def test_the_loss_is_summed_over_features_and_averaged_over_the_rest():
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
    layer = uq.NormalLikelihood(add_nll=True)
    layer(x)
    expected = -scipy.stats.norm.logpdf(x).sum(-1).mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)


def test_masked_positions_do_not_enter_the_loss():
    x = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
    mask = np.array([[True, True, False], [True, False, False]])
    expected = -scipy.stats.norm.logpdf(x).sum(-1)[mask].mean()
    x[~mask] = np.inf
    layer = uq.NormalLikelihood(add_nll=True)
    output = to_numpy(layer(x, mask=keras.ops.convert_to_tensor(mask)))
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)
    assert (output[~mask] == 0).all()


@given(
    x=reals("float32", -30, 18),
    loc=reals("float32", -30, 18),
    scale=positives("float32", -30, 30),
)
def test_one_step_is_never_nan(x, loc, scale):
    layer = layer_with(loc, scale, add_nll=True, scale_floor=1e-30)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    loss = model.train_on_batch(np.array([[x]], "float32"))
    assert not np.isnan(loss)
    assert not np.isnan(to_numpy(layer.loc))
    assert to_numpy(layer.scale) >= np.float32(1e-30)


def test_an_initial_scale_below_the_floor_starts_at_the_floor():
    layer = layer_with(0.0, 0.0, scale_floor=0.25)
    layer.build((None, 2))
    assert float(to_numpy(layer.scale)) == 0.25


@pytest.mark.slow
def test_a_scale_at_its_floor_recovers():
    """At once where gradients are clipped; else at the pace of Adam's memory
    of the first ones, which are of the order of 1 / floor^3."""
    x = np.random.default_rng(0).normal(0.0, 1.0, size=(2000, 1)).astype("float32")
    learned = {}
    for clipnorm in (1.0, None):
        layer = layer_with(0.0, 0.0, add_nll=True)
        model = keras.Sequential([layer])
        optimizer = keras.optimizers.Adam(2e-2, clipnorm=clipnorm)
        model.compile(optimizer, steps_per_execution=steps_per_execution(20))
        model.fit(x, batch_size=100, epochs=20, verbose=0)
        learned[clipnorm] = float(to_numpy(layer.scale))
    assert abs(learned[1.0] - 1.0) < 0.05
    assert learned[None] > 20 * layer.scale_floor


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"output": "density"}, "`output` must be one of 'log_prob', 'prob'. Received"),
        ({"scale_floor": 0}, "`scale_floor` must be a positive finite number"),
        ({"add_nll": None}, "`add_nll` must be True or False"),
        ({"per_feature": "yes"}, "`per_feature` must be True or False"),
    ],
)
def test_bad_arguments(kwargs, text):
    with pytest.raises(ValueError, match=text):
        uq.NormalLikelihood(**kwargs)


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"needs an input of shape \(batch, ..., D\)"):
        uq.NormalLikelihood()(np.ones(3))
    with pytest.raises(
        ValueError, match="the last axis of the input must have a known"
    ):
        uq.NormalLikelihood(per_feature=True).build((None, None))
