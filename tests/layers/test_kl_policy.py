"""The KL policy: what enters the loss, how often, and with which weight."""

import keras
import numpy as np
import pytest
from backend import needs_xla
from backend import to_numpy

import keras_uq_layers as uq

UNITS = 3
compiled = pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=needs_xla)]
)


def dense(**options):
    return uq.DenseVariational(UNITS, kl_weight=0.5, **options)


def kl_by_hand(layer):
    """Closed form, in NumPy, from the posterior's arrays."""
    total = 0.0
    for name, loc in layer.posterior.mean.items():
        scale = layer.posterior.scale[name]
        total += (0.5 * (scale**2 + loc**2 - 1) - np.log(scale)).sum()
    return total


def total_loss(model, x, y, jit_compile=False, **fit):
    """The loss that one step of `fit` reports, before the step."""
    model.compile(
        keras.optimizers.SGD(0.0),
        uq.losses.NegativeLogLikelihood(),
        jit_compile=jit_compile,
    )
    return model.fit(x, y, epochs=1, batch_size=len(x), verbose=0, **fit).history[
        "loss"
    ][0]


def head():
    return uq.ConstantVarianceHead(1, kernel_initializer="zeros")


def expected_nll(y):
    return (0.5 * y**2 + 0.5 * np.log(2 * np.pi)).mean()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_kl_itself():
    layer = dense()
    layer.build((None, 4))
    np.testing.assert_allclose(
        float(to_numpy(layer.kl())), kl_by_hand(layer), rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 2, 4)], ids=["ND", "NTD", "image"])
def test_weights_enter_once_with_their_weight(rng, shape):
    x = rng.normal(size=(*shape, 4)).astype("float32")
    y = rng.normal(size=(*shape, 1)).astype("float32")
    layer = dense()
    model = keras.Sequential([layer, head()])
    loss = total_loss(model, x, y)
    expected = expected_nll(y) + 0.5 * kl_by_hand(layer)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_with_a_mask_the_weight_is_not_rescaled(rng):
    x = rng.normal(size=(6, 5, 4)).astype("float32")
    x[:, 3:] = 0.0
    y = rng.normal(size=(6, 5, 1)).astype("float32")
    layer = dense()
    model = keras.Sequential([keras.layers.Masking(0.0), layer, head()])
    expected = expected_nll(y[:, :3]) + 0.5 * kl_by_hand(layer_after(model, x, layer))
    np.testing.assert_allclose(total_loss(model, x, y), expected, rtol=1e-5)


def layer_after(model, x, layer):
    model(x)
    return layer


@compiled
def test_a_layer_used_twice(rng, jit_compile):
    x = rng.normal(size=(6, UNITS)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    layer = dense()
    inputs = keras.Input((UNITS,))
    model = keras.Model(inputs, head()(layer(layer(inputs))))
    expected = expected_nll(y) + 0.5 * kl_by_hand(layer)
    np.testing.assert_allclose(
        total_loss(model, x, y, jit_compile), expected, rtol=1e-5
    )
    model(x)
    assert len(model.losses) == 1


@compiled
def test_time_distributed(rng, jit_compile):
    x = rng.normal(size=(6, 5, 4)).astype("float32")
    y = rng.normal(size=(6, 5, 1)).astype("float32")
    layer = dense()
    model = keras.Sequential([keras.layers.TimeDistributed(layer), head()])
    model(x)
    expected = expected_nll(y) + 0.5 * kl_by_hand(layer)
    np.testing.assert_allclose(
        total_loss(model, x, y, jit_compile), expected, rtol=1e-5
    )
    assert len(model.losses) == 1


class Cell(keras.layers.Layer):
    """A recurrent cell around a variational layer."""

    def __init__(self):
        super().__init__()
        self.dense = dense(estimator="reparameterization")
        self.state_size = UNITS

    def build(self, input_shape):
        self.dense.build((input_shape[0], input_shape[-1] + UNITS))

    def call(self, inputs, states):
        output = self.dense(keras.ops.concatenate([inputs, states[0]], axis=-1))
        return output, [output]


@pytest.mark.parametrize("unroll", [False, True])
def test_in_a_recurrent_loop(rng, unroll):
    x = rng.normal(size=(6, 5, 2)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    cell = Cell()
    model = keras.Sequential([keras.layers.RNN(cell, unroll=unroll), head()])
    model(x)
    expected = expected_nll(y) + 0.5 * kl_by_hand(cell.dense)
    np.testing.assert_allclose(total_loss(model, x, y), expected, rtol=1e-5)


def test_a_latent_code_per_call_with_weight_one(rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    encoder = uq.DistributionHead(2)
    model = keras.Sequential([encoder, uq.NormalSampling(), head()])
    params = to_numpy(encoder(x))
    loc, scale = np.split(params, 2, axis=-1)
    kl = (0.5 * (scale**2 + loc**2 - 1) - np.log(scale)).sum(-1).mean()
    np.testing.assert_allclose(total_loss(model, x, y), expected_nll(y) + kl, rtol=1e-5)


def test_evaluate_has_the_kl_and_the_metric_has_not(rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    layer = dense()
    model = keras.Sequential([layer, head()])
    model.compile(
        loss=uq.losses.NegativeLogLikelihood(),
        metrics=[uq.metrics.NegativeLogLikelihood()],
    )
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["nll"], expected_nll(y), rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], expected_nll(y) + 0.5 * kl_by_hand(layer), rtol=1e-5
    )


def test_a_frozen_layer_adds_none(rng):
    layer = dense()
    model = keras.Sequential([layer, head()])
    model(rng.normal(size=(6, 4)))
    layer.trainable = False
    assert not model.losses


def test_the_weight_changes_in_place(rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    layer = dense()
    model = keras.Sequential([layer, head()])
    model(x)
    layer.kl_weight.assign(0.125)
    expected = expected_nll(y) + 0.125 * kl_by_hand(layer)
    np.testing.assert_allclose(total_loss(model, x, y), expected, rtol=1e-5)


def test_leaving_the_weight_out_says_what_to_write():
    with pytest.raises(
        ValueError, match=r"1 / \(number of scored training positions\)"
    ):
        uq.DenseVariational(3)
