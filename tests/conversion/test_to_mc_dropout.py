"""`to_mc_dropout`: a trained model whose dropout acts at inference, too."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from dropping_layers import X
from dropping_layers import branches_of
from dropping_layers import dropping_classes
from dropping_layers import dropping_model
from keras import layers

import keras_uq_layers as uq
from keras_uq_layers.layers._always_drops import ALWAYS_DROPPING


def rates_of(model, names=("rate", "dropout", "recurrent_dropout")):
    """All rates of the layers that drop at inference."""
    drops = tuple(ALWAYS_DROPPING.values())
    found = [p.get_config() for p in model._flatten_layers() if isinstance(p, drops)]
    return [config[name] for config in found for name in names if name in config]


# Every layer of Keras with dropout


@pytest.fixture(scope="module")
def every_layer():
    """A model with each layer that drops, and the same one converted."""
    model = dropping_model(seed=7)
    converted = uq.to_mc_dropout(model)
    # `SimpleRNN` of Keras 3.15 does not tell its seed to its config.
    state = converted.get_layer("SimpleRNN").cell.seed_generator.state
    state.assign(np.array([7, 0], dtype=state.dtype))
    return model, converted


def test_no_layer_of_keras_with_dropout_is_missing():
    assert set(ALWAYS_DROPPING) == set(dropping_classes().values())


def test_each_does_at_inference_what_keras_does_in_training(every_layer):
    model, converted = every_layer
    expected = branches_of(model)(X, training=True)
    found = branches_of(converted)(X)
    certain = branches_of(model)(X)
    assert set(found) == set(dropping_classes())
    for name, value in found.items():
        value = to_numpy(value)
        np.testing.assert_allclose(
            value, to_numpy(expected[name]), rtol=1e-5, atol=1e-6, err_msg=name
        )
        assert np.abs(value - to_numpy(certain[name])).max() > 0.01, name


def test_each_goes_on_with_its_noise_when_it_is_loaded(every_layer, tmp_path):
    _, converted = every_layer
    converted.save(tmp_path / "model.keras")
    expected = to_numpy(converted(X))
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(to_numpy(loaded(X)), expected, rtol=1e-5, atol=1e-6)


def test_deterministic_is_the_way_back(every_layer):
    model, converted = every_layer
    back = uq.to_deterministic(converted)
    np.testing.assert_allclose(
        to_numpy(back(X)), to_numpy(model(X)), rtol=1e-5, atol=1e-6
    )
    assert "keras_uq_layers" not in back.to_json()
    assert type(back.get_layer("LSTM")) is layers.LSTM


def test_a_rate_is_for_all_dropout(every_layer):
    model, converted = every_layer
    assert set(rates_of(converted)) == {0.5}
    for other in (uq.to_mc_dropout(model, 0.25), uq.to_mc_dropout(converted, 0.25)):
        assert set(rates_of(other)) == {0.25}
        assert len(rates_of(other)) == len(rates_of(converted))


# Models


def nested_model():
    """Masks, wrappers, a nested and a shared layer, batch statistics."""
    codes = keras.Input((4,), dtype="int32")
    h = layers.Embedding(5, 3, mask_zero=True)(codes)
    h = layers.TimeDistributed(layers.Dropout(0.5), name="steps")(h)
    recurrent = layers.LSTM(3, dropout=0.5, return_sequences=True)
    h = layers.Bidirectional(recurrent, name="both")(h)
    cells = [layers.GRUCell(3, recurrent_dropout=0.5), layers.LSTMCell(3)]
    h = layers.RNN(cells, name="stack")(h)
    inner = keras.Sequential(
        [keras.Input((3,)), layers.BatchNormalization(), layers.GaussianDropout(0.5)],
        name="inner",
    )
    shared = layers.Dropout(0.5, name="shared")
    h = layers.Add()([shared(inner(h)), shared(h)])
    model = keras.Model(codes, uq.DistributionHead(1)(h))
    inner.layers[0].moving_mean.assign([0.1, 0.2, 0.3])
    inner.layers[0].moving_variance.assign([0.5, 1.5, 2.5])
    return model


CODES = np.array([[1, 2, 0, 0], [4, 3, 2, 0], [1, 2, 3, 4]])


def test_a_nested_model():
    model = nested_model()
    weights = [to_numpy(w).copy() for w in model.weights]
    output = to_numpy(model(CODES))
    converted = uq.to_mc_dropout(model)
    # A rate near 0 changes nothing: the weights are the same, masks are used,
    # and the batch statistics are those of inference.
    for near in (uq.to_mc_dropout(model, 1e-14), uq.to_deterministic(converted)):
        # A loc is a sum whose terms may cancel: it has the rounding of its terms.
        np.testing.assert_allclose(to_numpy(near(CODES)), output, rtol=1e-5, atol=1e-7)
    assert [p.name for p in converted.layers] == [p.name for p in model.layers]
    kinds = [type(p).__name__ for p in converted._flatten_layers()]
    for kind, count in [
        ("MCDropout", 2),
        ("MCLSTM", 2),
        ("MCGRUCell", 1),
        ("MCGaussianDropout", 1),
        ("Dropout", 0),
    ]:
        assert kinds.count(kind) == count, kind
    # The model itself is left as it is.
    np.testing.assert_array_equal(to_numpy(model(CODES)), output)
    for before, weight in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), before)


def test_it_is_predicted_and_trained():
    recurrent = layers.SimpleRNN(4, recurrent_dropout=0.5, unroll=True)
    original = keras.Sequential(
        [keras.Input((4, 3)), recurrent, uq.DistributionHead(1)]
    )
    expected = to_numpy(original(X))
    model = uq.to_mc_dropout(original)
    first, again, other = (
        uq.predict(model, X, samples=5, seed=seed, verbose=0) for seed in (1, 1, 2)
    )
    assert (first.epistemic_std > 0).all()
    np.testing.assert_array_equal(first.samples, again.samples)
    assert np.abs(first.samples - other.samples).max() > 0.01
    before = to_numpy(model.layers[0].cell.kernel).copy()
    model.compile("sgd", uq.losses.NegativeLogLikelihood())
    model.fit(X, np.ones((len(X), 1)), verbose=0)
    assert np.abs(to_numpy(model.layers[0].cell.kernel) - before).max() > 0
    np.testing.assert_array_equal(to_numpy(original(X)), expected)


def test_both_directions_draw_their_own_noise():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Bidirectional(layers.LSTM(2, dropout=0.5), name="both"),
        ]
    )
    both = uq.to_mc_dropout(model).get_layer("both")
    forward, backward = (p.cell.seed for p in (both.forward_layer, both.backward_layer))
    assert None not in (forward, backward)
    assert forward != backward


def test_a_rate_gives_no_dropout_where_there_is_none():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.GRU(2, dropout=0.5, return_sequences=True),
            layers.SimpleRNN(2),
            layers.Dropout(0.0),
        ]
    )
    converted = uq.to_mc_dropout(model, rate=0.25)
    assert rates_of(converted) == [0.25, 0.0]
    assert type(converted.layers[1]) is layers.SimpleRNN
    assert type(converted.layers[2]) is layers.Dropout


def test_the_members_of_an_ensemble():
    def member():
        return keras.Sequential(
            [keras.Input((3,)), layers.Dropout(0.5), uq.DistributionHead(1)]
        )

    ensemble = uq.to_mc_dropout(uq.Ensemble(member, members=2))
    assert rates_of(ensemble) == [0.5, 0.5]


def test_an_export_that_would_freeze_the_draw_is_refused(every_layer, monkeypatch):
    """Keras's own layers do not ask, and the file would repeat one draw."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the other backends trace in ways of their own")
    import tensorflow as tf

    monkeypatch.setattr("keras_uq_layers._keras.export_format", lambda: "onnx")
    layer = uq.to_mc_dropout(
        keras.Sequential([keras.Input((4, 3)), layers.LSTM(2, dropout=0.5)])
    )
    with pytest.raises(ValueError, match="`format` must be"):
        tf.function(layer).get_concrete_function(X)


# Errors


class Hiding(layers.Layer):
    """A layer that makes a dropout layer itself: its config does not tell."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dropout(0.5)

    def call(self, inputs):
        return self.hidden(inputs)


class Own(layers.GaussianDropout):
    """Dropout of a user, of which only its base class is known."""


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (layers.Dense(2), "`model` must have dropout .* use `uq.to_bayesian` or"),
        (layers.Dropout(0.0), "`model` must have dropout with a positive rate"),
        (layers.LSTM(2), "`model` must have dropout with a positive rate"),
        (Own(0.5), "must drop by layers of Keras itself: .* of class Own"),
        (Hiding(), "A layer to replace is left"),
        (Subclassed(), "must be a Sequential or Functional model"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_cannot_be_converted_is_an_error(last, message):
    shape = (6, 3) if isinstance(last, layers.LSTM) else (3,)
    model = keras.Sequential([keras.Input(shape), last])
    with pytest.raises(ValueError, match=message):
        uq.to_mc_dropout(model)


def test_wrong_arguments_are_an_error():
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        uq.to_mc_dropout(layers.Dropout(0.5))
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(0.5)])
    for rate in (0.0, 1.0, -0.1, float("nan"), "half"):
        with pytest.raises(ValueError, match=r"`rate` must be inside \(0, 1\)"):
            uq.to_mc_dropout(model, rate)
