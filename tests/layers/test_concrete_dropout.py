"""`ConcreteDropout`: the KL, the relaxed mask, and the rate that is learned."""

import keras
import numpy as np
import pytest
from backend import steps_per_execution
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq


def concrete(rate=0.3, units=4, **options):
    options = {"kl_weight": 0.1, "seed": 0, **options}
    return uq.ConcreteDropout(keras.layers.Dense(units), initial_rate=rate, **options)


def test_kl_is_the_formula():
    layer = concrete(0.3, prior_scale=2.0, kl_weight=0.01)
    layer(np.ones((1, 3), "float32"))
    kernel = to_numpy(layer.layer.kernel)
    entropy = -0.3 * np.log(0.3) - 0.7 * np.log(0.7)
    expected = (kernel**2).sum() / (2 * 4 * 0.7) - 3 * entropy
    np.testing.assert_allclose(float(layer.kl()), expected, rtol=1e-5)
    np.testing.assert_allclose(float(layer.losses[0]), 0.01 * expected, rtol=1e-5)


def test_kl_counts_once_however_often_the_layer_is_called():
    layer = concrete()
    x = keras.Input((5, 3))
    model = keras.Model(x, keras.layers.TimeDistributed(layer)(x))
    model(np.ones((2, 5, 3), "float32"))
    assert len(model.losses) == 1
    layer.trainable = False
    assert len(model.losses) == 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_inference_is_a_bernoulli_mask(rate):
    layer = concrete(rate, units=1)
    layer.layer = keras.layers.Dense(1)
    x = np.ones((20_000, 1), "float32")
    layer(x)
    layer.layer.kernel.assign([[1.0]])
    y = to_numpy(layer(x, training=False))
    values = np.unique(y)
    np.testing.assert_allclose(values, [0.0, 1 / (1 - rate)], rtol=1e-5)
    error = np.sqrt(rate * (1 - rate) / len(x))
    np.testing.assert_allclose((y == 0).mean(), rate, atol=5 * error)


def test_training_is_relaxed_and_has_a_gradient_for_the_rate():
    layer = concrete(0.3)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    layer(x)

    def total(logit):
        with keras.StatelessScope([(layer.rate_logit, logit)]):
            return ops.sum(layer(x, training=True)) + layer.kl()

    _, (gradient,) = value_and_gradients(total, np.float32(-0.8))
    assert np.isfinite(gradient)
    assert gradient != 0


@pytest.mark.parametrize("logit", [-1e30, -100.0, 0.0, 80.0])
def test_extreme_rates_are_finite(logit):
    layer = concrete()
    layer(np.ones((2, 3), "float32"))

    def kl(logit):
        with keras.StatelessScope([(layer.rate_logit, logit)]):
            return layer.kl()

    value, (gradient,) = value_and_gradients(kl, np.float32(logit))
    assert np.isfinite(value)
    assert np.isfinite(gradient)


@pytest.mark.slow
def test_more_data_lowers_the_rate():
    """Regression of Gal et al.: the learned rate falls with the data."""
    rates = []
    for n in (10, 1000):
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n, 1)).astype("float32")
        y = 2 * x[:, 0] + 8 + rng.normal(size=n).astype("float32")
        layer = uq.ConcreteDropout(
            keras.layers.Dense(16, "relu"), kl_weight=1 / n, initial_rate=0.2
        )
        model = keras.Sequential(
            [
                keras.layers.Dense(16, "relu"),
                layer,
                uq.DistributionHead(1),
            ]
        )
        steps = 40
        model.compile(
            keras.optimizers.Adam(0.05),
            loss=uq.losses.NegativeLogLikelihood(),
            jit_compile=False,
            steps_per_execution=steps_per_execution(steps),
        )
        # Copies of the data, so that an epoch has many full batches.
        x, y = np.tile(x, (steps, 1)), np.tile(y, steps)
        model.fit(x, y, batch_size=n, epochs=3, verbose=0, shuffle=False)
        rates.append(float(layer.rate))
    assert rates[1] < 0.5 * rates[0], rates


def test_convolutions_drop_channels():
    layer = uq.ConcreteDropout(
        keras.layers.Conv2D(1, 1, use_bias=False), kl_weight=0.1, initial_rate=0.5
    )
    x = np.ones((50, 4, 4, 2), "float32")
    y = to_numpy(layer(x, training=False))
    assert (y == y[:, :1, :1]).all()
    assert len(np.unique(y.round(4))) == 4  # either channel, both, none


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kl_weight": None}, "`kl_weight` must be given"),
        ({"kl_weight": -1.0}, "`kl_weight` must be"),
        ({"rate": 0.0}, "`initial_rate` must be above 0"),
        ({"rate": 1.0}, "`initial_rate` must be below 1"),
        ({"temperature": 0.0}, "`temperature` must be"),
        ({"prior_scale": -1.0}, "`prior_scale` must be"),
    ],
)
def test_bad_concrete_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        concrete(**options)


def test_concrete_needs_a_layer_with_a_kernel():
    with pytest.raises(ValueError, match="`layer` must be a Dense, Conv1D"):
        uq.ConcreteDropout(keras.layers.LSTM(3), kl_weight=0.1)


def test_the_deterministic_twin_is_the_layer():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    concrete = uq.ConcreteDropout(
        keras.layers.Dense(2, "tanh"), kl_weight=0.1, name="concrete"
    )
    concrete(x)
    layer, weights = concrete.deterministic()
    assert type(layer) is keras.layers.Dense
    assert layer.name == "concrete"
    layer.build(x.shape)
    layer.set_weights(weights)
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(concrete.layer(x)))
