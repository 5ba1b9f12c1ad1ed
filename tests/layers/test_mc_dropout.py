"""`MCDropout` and its spatial variants."""

import keras
import numpy as np
import pytest
from backend import to_numpy

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


def test_the_deterministic_twin_is_the_identity():
    layer, weights = uq.MCDropout(0.5, name="drop").deterministic()
    assert isinstance(layer, keras.layers.Identity)
    assert (layer.name, weights) == ("drop", [])
