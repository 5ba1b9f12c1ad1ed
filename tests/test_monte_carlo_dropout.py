"""MCDropout, its spatial variants, and ConcreteDropout."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq


@pytest.mark.parametrize("training", [True, False])
def test_drops_the_given_share_and_keeps_the_mean(training):
    x = np.ones((200, 50), "float32")
    y = to_numpy(uq.MCDropout(0.2, seed=1)(x, training=training))
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    error = np.sqrt(0.2 * 0.8 / x.size)
    np.testing.assert_allclose((y == 0).mean(), 0.2, atol=5 * error)


def test_noise_shape():
    y = to_numpy(uq.MCDropout(0.5, noise_shape=(None, 1, None))(np.ones((20, 5, 6))))
    assert (y == y[:, :1]).all()
    assert (y != y[:1]).any()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_spatial_drops_whole_maps(rank, data_format):
    layer = getattr(uq, f"SpatialMCDropout{rank}D")(0.5, data_format=data_format)
    y = to_numpy(layer(np.ones((30, *[4] * (rank + 1)), "float32")))
    y = y.reshape(30, 4, -1) if data_format == "channels_first" else y
    if data_format == "channels_last":
        y = np.moveaxis(y, -1, 1).reshape(30, 4, -1)
    assert (y == y[..., :1]).all()
    assert 0.3 < (y[..., 0] == 0).mean() < 0.7


def test_rate_zero_draws_nothing():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_array_equal(to_numpy(uq.MCDropout(0.0)(x)), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "a"])
def test_bad_rates(rate):
    for layer in (uq.MCDropout, uq.SpatialMCDropout1D, uq.SpatialMCDropout3D):
        with pytest.raises(ValueError, match="`rate` must be"):
            layer(rate)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="noise_shape"):
        uq.MCDropout(0.5, noise_shape="all")
    with pytest.raises(ValueError, match="`data_format` must be one of"):
        uq.SpatialMCDropout2D(0.5, data_format="last")
    with pytest.raises(ValueError, match="ndim"):
        uq.SpatialMCDropout2D(0.5)(np.ones((2, 3, 4)))


def test_masks_pass():
    layer = keras.Sequential([keras.layers.Embedding(4, 2, mask_zero=True)])
    layer.add(uq.MCDropout(0.5))
    layer.add(keras.layers.GlobalAveragePooling1D())
    assert np.isfinite(to_numpy(layer(np.array([[1, 0], [2, 3]])))).all()


def test_deterministic_twins():
    layer, weights = uq.MCDropout(0.5, name="drop").deterministic()
    assert isinstance(layer, keras.layers.Identity)
    assert (layer.name, weights) == ("drop", [])
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


# ConcreteDropout


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
        model.compile(
            keras.optimizers.Adam(0.05), loss=uq.losses.NegativeLogLikelihood()
        )
        model.fit(x, y, batch_size=n, epochs=120, verbose=0)
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
