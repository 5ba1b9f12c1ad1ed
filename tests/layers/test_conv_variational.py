"""Convolutions with random weights."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from random_weights import ESTIMATORS
from random_weights import output_draws
from random_weights import randomize

import keras_uq_layers as uq

RNG = np.random.default_rng(0)
CONVOLUTIONS = {
    1: uq.Conv1DVariational,
    2: uq.Conv2DVariational,
    3: uq.Conv3DVariational,
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"padding": "same", "dilation_rate": 2},
        {"groups": 2},
        {"data_format": "channels_first"},
        {"padding": "causal", "dilation_rate": 2},
        {"padding": "causal", "data_format": "channels_first"},
    ],
    ids=str,
)
def test_convolution_at_the_mean_is_that_of_keras(rank, options):
    """And the estimators have its mean, whatever the arguments."""
    if options.get("padding") == "causal" and rank > 1:
        pytest.skip("causal padding is for one dimension")
    channels_first = options.get("data_format") == "channels_first"
    space = (7, 6, 5)[:rank]
    shape = (3, 4, *space) if channels_first else (3, *space, 4)
    x = RNG.normal(size=shape).astype("float32")
    for estimator in ESTIMATORS:
        layer = CONVOLUTIONS[rank](
            8, 2, **options, activation="tanh", kl_weight=0.0, estimator=estimator
        )
        layer.build(shape)
        layer.kernel.assign(RNG.normal(size=layer.kernel.shape))
        if layer.bias is not None:
            layer.bias.assign(RNG.normal(size=layer.bias.shape))
        layer.posterior._raw_scale.assign(-50.0 * np.ones(layer.posterior.size))
        plain, weights = layer.deterministic()
        plain.build(shape)
        plain.set_weights(weights)
        try:
            expected = to_numpy(plain(x))
        except Exception as error:
            if channels_first and "NHWC" in str(error):
                pytest.skip("TensorFlow has no such convolution on this CPU")
            raise
        assert tuple(layer.compute_output_shape(shape)) == expected.shape
        for training in (False, True):
            outputs = to_numpy(layer(x, training=training))
            np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_convolution_noise_has_the_variance_of_the_weights(estimator):
    layer = uq.Conv2DVariational(
        2, 3, strides=2, kl_weight=0.0, groups=2, estimator=estimator, seed=5
    )
    x = RNG.normal(size=(2, 6, 5, 4)).astype("float32")
    layer.build(x.shape)
    randomize(layer)
    squares = keras.layers.Conv2D(2, 3, strides=2, groups=2)
    squares.build(x.shape)
    squares.set_weights([s**2 for s in layer.posterior.scale.values()])
    variance = to_numpy(squares(x**2))
    draws = output_draws(layer, x, 1500)
    ratio = draws.var(axis=0) / variance
    assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / len(draws))


def test_convolution_errors():
    with pytest.raises(ValueError, match="`groups` must divide the number of input"):
        uq.Conv1DVariational(4, 3, groups=2, kl_weight=0.1).build((None, 8, 3))
    with pytest.raises(ValueError, match="evenly divisible"):
        uq.Conv2DVariational(3, 3, groups=2, kl_weight=0.1)
    with pytest.raises(ValueError, match="The channel axis of the input of `Conv1D"):
        uq.Conv1DVariational(4, 3, kl_weight=0.1).build((None, 8, None))
