"""`Variational`: any Keras layer with random weights."""

import re

import keras
import numpy as np
import pytest
from backend import needs_xla
from backend import to_numpy
from keras import layers
from keras import ops
from layer_cases import public_layers

import keras_uq_layers as uq


@keras.saving.register_keras_serializable(package="tests")
class Mine(layers.Layer):
    """A user's layer: no `build`, a loss of its own, dropout inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.dropout = layers.Dropout(0.5, seed=0)

    def call(self, inputs, training=False):
        outputs = self.dropout(self.dense(inputs), training=training)
        self.add_loss(ops.mean(ops.square(outputs)))
        return outputs

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


def small_sequential():
    # Without a seed, Keras's own dropout has no state on PyTorch.
    return keras.Sequential(
        [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5, seed=1)]
    )


def einsum_dense():
    return layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")


SIGNALS, IMAGES = (2, 5, 3), (2, 6, 5, 3)
INNER = {
    "LSTM": (lambda: layers.LSTM(4), SIGNALS),
    "GRU": (lambda: layers.GRU(4, return_sequences=True), SIGNALS),
    "Bidirectional": (lambda: layers.Bidirectional(layers.LSTM(4)), SIGNALS),
    "SeparableConv1D": (lambda: layers.SeparableConv1D(4, 3), SIGNALS),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(4, 3), IMAGES),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3), IMAGES),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(3, 3), IMAGES),
    "Embedding": (lambda: layers.Embedding(7, 4, mask_zero=True), (2, 5)),
    "EinsumDense": (einsum_dense, SIGNALS),
    "MultiHeadAttention": (lambda: layers.MultiHeadAttention(2, 4), SIGNALS),
    "Sequential": (small_sequential, (6, 3)),
    "Mine": (Mine, (6, 3)),
    "RNN(cell)": (lambda: layers.RNN(layers.GRUCell(4)), SIGNALS),
}


def wrap(layer, kl_weight=0.01, **kwargs):
    return uq.Variational(layer, kl_weight=kl_weight, **kwargs)


def make_input(name, shape):
    rng = np.random.default_rng(0)
    if name == "Embedding":
        return rng.integers(0, 7, size=shape)
    return rng.normal(size=shape).astype("float32")


def make_model(name):
    make, shape = INNER[name]
    inputs = keras.Input(shape[1:], dtype="int32" if name == "Embedding" else "float32")
    layer = wrap(make(), seed=1)
    args = (inputs, inputs) if name == "MultiHeadAttention" else (inputs,)
    return keras.Model(inputs, layer(*args)), layer, make_input(name, shape)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=needs_xla)])
@pytest.mark.parametrize("name", INNER)
def test_trains(name, jit_compile):
    model, layer, x = make_model(name)
    target = np.ones(model(x).shape, "float32")
    model.compile("adam", "mse", jit_compile=jit_compile)
    # The means are the layer's own weights, tracked once, and one scale each.
    means = layer.layer.trainable_variables
    assert len(model.trainable_variables) == len(means) + 1
    assert sum(m.size for m in layer.posterior.mean.values()) == sum(
        np.prod(v.shape) for v in means
    )
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    loss = model.train_on_batch(x, target)
    assert np.isfinite(loss)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = to_numpy(variable)
        assert np.isfinite(new).all()
        assert (new != old).any(), f"{variable.path} has no gradient"


@pytest.mark.parametrize("name", INNER)
def test_reload_draws_and_mean(name, tmp_path):
    model, layer, x = make_model(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first = to_numpy(model(x))
    np.testing.assert_allclose(to_numpy(loaded(x)), first, rtol=1e-5, atol=1e-6)
    assert np.abs(to_numpy(model(x)) - first).max() > 1e-6  # another draw
    # With scales near 0 every draw is the layer at its means.
    raw = layer.posterior._raw_scale
    raw.assign(-50.0 * np.ones(raw.shape))
    args = (x, x) if name == "MultiHeadAttention" else (x,)
    expected = to_numpy(layer.layer(*map(ops.convert_to_tensor, args)))
    np.testing.assert_allclose(to_numpy(model(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["SeparableConv1D", "EinsumDense", "Sequential"])
def test_inside_time_distributed(name):
    make, shape = INNER[name]
    x = np.repeat(make_input(name, shape)[:, None], 3, axis=1)
    model = keras.Sequential([layers.TimeDistributed(wrap(make()))])
    y = model(x)
    model.compile("adam", "mse", jit_compile=False)
    assert np.isfinite(model.train_on_batch(x, to_numpy(y)))
    assert len(model.losses) == 1
    assert to_numpy(model.losses[0]) == pytest.approx(
        0.01 * to_numpy(model.layers[0].layer.kl()), rel=1e-5
    )


def test_inside_bidirectional(tmp_path):
    """Trained, saved, loaded and converted as the layer without the wrapper."""
    x = make_input("", SIGNALS)
    layer = layers.Bidirectional(
        wrap(layers.SimpleRNN(4, return_sequences=True), seed=3)
    )
    model = keras.Sequential([layer])
    assert to_numpy(model(x)).shape == (*SIGNALS[:2], 8)
    directions = layer.forward_layer, layer.backward_layer
    assert [part.go_backwards for part in directions] == [False, True]
    model.compile("sgd", "mse", jit_compile=False)
    assert np.isfinite(model.train_on_batch(x, to_numpy(model(x))))
    assert len(model.losses) == 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), rtol=1e-5)
    for part in directions:
        raw = part.posterior._raw_scale
        raw.assign(-50.0 * np.ones(raw.shape))
    expected = to_numpy(uq.to_deterministic(model)(x))
    np.testing.assert_allclose(to_numpy(model(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU])
def test_inside_bidirectional_with_states(cell):
    options = {"return_sequences": True, "return_state": True}
    wrapped = layers.Bidirectional(wrap(cell(4, **options)), merge_mode=None)
    plain = layers.Bidirectional(cell(4, **options), merge_mode=None)
    x = make_input("", SIGNALS)
    assert [v.shape for v in wrapped(x)] == [v.shape for v in plain(x)]


def test_every_public_wrapper_is_known_to_stand_in_bidirectional_or_to_refuse():
    found = set()
    for name in public_layers():
        cls = getattr(uq, name)
        if issubclass(cls, layers.Wrapper):
            try:
                layer = layers.Bidirectional(cls(layers.SimpleRNN(4), kl_weight=0.1))
            except ValueError as error:
                assert "`layer` must be" in str(error)  # noqa: PT017
                found.add((name, "refuses"))
            else:
                assert layer(make_input("", SIGNALS)).shape == (2, 8)
                found.add((name, "stands"))
    assert found == {("Variational", "stands"), ("ConcreteDropout", "refuses")}


def test_the_directions_of_bidirectional_draw_different_noise():
    layer = layers.Bidirectional(wrap(layers.SimpleRNN(4), seed=3))
    layer.build((None, 5, 3))
    noise = [
        to_numpy(part.random_weights.perturbation()["simple_rnn_cell/kernel"])
        for part in (layer.forward_layer, layer.backward_layer)
    ]
    assert np.abs(noise[0] - noise[1]).max() > 1e-3


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=needs_xla)])
@pytest.mark.parametrize("stacked", [False, True])
def test_as_the_cell_of_an_rnn(stacked, jit_compile, tmp_path):
    """One sample over the sequence, whatever the loop is compiled to."""
    cells = [wrap(layers.LSTMCell(4, dropout=0.3)), wrap(layers.SimpleRNNCell(4))]
    cell = cells if stacked else cells[0]
    model = keras.Sequential([layers.RNN(cell, return_sequences=True)])
    x = make_input("", SIGNALS)
    y = to_numpy(model(x))
    model.compile("adam", "mse", jit_compile=jit_compile)
    assert np.isfinite(model.train_on_batch(x, y))
    assert len(model.losses) == 1 + stacked
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        to_numpy(loaded(x)), to_numpy(model(x)), rtol=1e-5, atol=1e-6
    )


def test_rnn_keeps_one_draw_over_the_sequence():
    """Without a memory, equal inputs at all steps give equal outputs."""
    cell = wrap(
        layers.SimpleRNNCell(4, recurrent_initializer="zeros"), weights="/ker|^ker"
    )
    model = keras.Sequential([layers.RNN(cell, return_sequences=True)])
    x = np.repeat(make_input("", (2, 1, 3)), 5, axis=1)
    y = to_numpy(model(x))
    np.testing.assert_allclose(y, np.repeat(y[:, :1], 5, axis=1), rtol=1e-5)
    assert np.abs(to_numpy(model(x)) - y).max() > 1e-6


def test_choice_of_weights():
    layer = wrap(layers.LSTM(4), weights="recurrent")
    layer.build((None, 5, 3))
    assert list(layer.posterior.mean) == ["lstm_cell/recurrent_kernel"]
    assert layer.posterior.scale["lstm_cell/recurrent_kernel"].shape == (4, 16)
    assert len(layer.trainable_variables) == 4
    layer = wrap(layers.LSTM(4), weights=["bias", "/kernel"])
    layer.build((None, 5, 3))
    assert list(layer.posterior.mean) == ["lstm_cell/kernel", "lstm_cell/bias"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wrap(layers.Dense(2), kl_weight=None), "kl_weight=1 / len"),
        (lambda: wrap("dense"), "`layer` must be a Keras layer. Received: layer='den"),
        (lambda: wrap(layers.Dense(2), weights=3), "`weights` must be None, a reg"),
        (
            lambda: wrap(layers.Dense(2), dtype="float16"),
            "`dtype` must be that of `layer`, 'float32'. Received: dtype='float16'",
        ),
    ],
)
def test_argument_errors(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (layers.ReLU(), {}, "`layer` must have trainable weights to make random"),
        (layers.Dense(2, trainable=False), {}, "none of them trainable"),
        (
            layers.Dense(2),
            {"weights": "gain"},
            "which are 'kernel', 'bias'. Received: weights='gain'",
        ),
    ],
)
def test_build_errors(layer, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        wrap(layer, **options).build((None, 3))


def test_frozen_adds_no_kl_and_still_draws(tmp_path):
    model = keras.Sequential([wrap(layers.Dense(2))])
    x = make_input("", (4, 3))
    model(x)
    model.trainable = False
    assert model.losses == []
    assert model.trainable_variables == []
    assert np.abs(to_numpy(model(x)) - to_numpy(model(x))).max() > 1e-6
    model.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), rtol=1e-5)


def test_partly_frozen_layer_keeps_its_choice(tmp_path):
    """A frozen part is not random, also once all of it is frozen and saved."""
    inner = keras.Sequential([layers.Dense(3, trainable=False), layers.Dense(2)])
    model = keras.Sequential([wrap(inner)])
    x = make_input("", (4, 3))
    model(x)
    names = list(model.layers[0].posterior.mean)
    assert len(names) == 2
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    assert list(loaded.layers[0].posterior.mean) == names
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), rtol=1e-5)


def test_inner_losses_count_once():
    inner = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
    layer = wrap(inner, kl_weight=0.0)
    layer(make_input("", (4, 3)))
    expected = 0.1 * np.sum(layer.posterior.mean["kernel"] ** 2)  # on the mean
    assert sum(float(v) for v in layer.losses) == pytest.approx(expected, rel=1e-5)
    model = keras.Sequential([wrap(Mine(), kl_weight=0.0)])
    x = make_input("", (4, 3))
    for _ in range(2):
        y = to_numpy(model(x))
        assert len(model.losses) == 2
        total = sum(float(v) for v in model.losses)
        assert total == pytest.approx(np.mean(y**2), rel=1e-5)
    model.compile("sgd", loss=None, jit_compile=False)
    assert model.evaluate(x, verbose=0) > 0


def test_inner_state_moves_on():
    """Batch statistics and dropout seeds, which the inner call changes."""
    model = keras.Sequential([wrap(small_sequential())])
    x = 3.0 + make_input("", (8, 3))
    model(x)
    norm = model.layers[0].layer.layers[1]
    before = to_numpy(norm.moving_mean).copy()
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, np.ones((8, 4)), verbose=0)
    assert (to_numpy(norm.moving_mean) != before).any()
    state = model.layers[0].layer.layers[2].seed_generator.state
    first = to_numpy(state).copy()
    model.fit(x, np.ones((8, 4)), verbose=0)
    assert (to_numpy(state) != first).any()


def test_mask_passes_through():
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    inputs = keras.Input((4,), dtype="int32")
    embedded = wrap(layers.Embedding(7, 4, mask_zero=True))(inputs)
    outputs = wrap(layers.LSTM(3))(embedded)
    model = keras.Model(inputs, outputs)
    for variable in model.trainable_variables:
        if "raw_scale" in variable.name:
            variable.assign(-50.0 * np.ones(variable.shape))
    # Masked steps are as if they were not there.
    embedding, lstm = model.layers[1].layer, model.layers[2].layer
    expected = to_numpy(lstm(embedding(ops.convert_to_tensor(ids[:1, :2]))))
    np.testing.assert_allclose(to_numpy(model(ids))[:1], expected, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_posterior_wide(policy):
    layer = wrap(layers.Dense(2, dtype=policy))
    x = make_input("", (4, 3))
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == policy[6:]
    assert {v.dtype for v in layer.trainable_variables} == {"float32"}
    model = keras.Sequential([layers.TimeDistributed(layer)])
    assert np.isfinite(to_numpy(model(x[:, None]))).all()


def test_kl_and_draws_agree_with_dense_variational():
    """The same posterior, the same noise: the same KL and the same output."""
    dense = uq.DenseVariational(4, kl_weight=0.01, seed=3)
    wrapper = wrap(layers.Dense(4), seed=3)
    x = make_input("", (5, 3))
    dense.build(x.shape)
    wrapper.build(x.shape)
    wrapper.layer.set_weights(list(dense.posterior.mean.values()))
    assert to_numpy(wrapper.kl()) == pytest.approx(to_numpy(dense.kl()), rel=1e-6)
    np.testing.assert_allclose(to_numpy(wrapper(x)), to_numpy(dense(x)), rtol=1e-5)
