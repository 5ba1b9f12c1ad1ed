"""`to_deterministic`: the same model at the posterior mean."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import layers
from layer_cases import CASES

import keras_uq_layers as uq

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3)).astype("float32")
SIGNALS = RNG.normal(size=(2, 6, 3)).astype("float32")
KL = {"kl_weight": 0.01}


def shrink(model):
    """Scales near 0: every draw is then the layer at its mean."""
    for layer in model._flatten_layers():
        posterior = getattr(layer, "posterior", None)
        if posterior is not None:
            posterior._raw_scale.assign(-50.0 * np.ones(posterior._raw_scale.shape))


def check(model, x):
    """Same output, same names, nothing random, nothing shared or changed."""
    y = to_numpy(model(x))
    plain = uq.to_deterministic(model)
    first = to_numpy(plain(x))
    np.testing.assert_array_equal(to_numpy(plain(x)), first)
    random = [type(p) for p in plain._flatten_layers() if hasattr(p, "posterior")]
    assert random == []
    assert [part.name for part in plain.layers] == [part.name for part in model.layers]
    assert plain.name == model.name
    assert not {id(w) for w in plain.weights} & {id(w) for w in model.weights}
    shrink(model)
    np.testing.assert_allclose(first, to_numpy(model(x)), rtol=1e-5, atol=1e-6)
    assert y.shape == first.shape
    return plain


def test_sequential_with_every_kind():
    model = keras.Sequential(
        [
            keras.Input((6, 3), name="signal"),
            uq.Conv1DVariational(4, 3, activation="relu", **KL, name="conv"),
            layers.BatchNormalization(),
            uq.Variational(layers.LSTM(5), **KL, name="memory"),
            uq.DenseVariational(4, "tanh", deterministic_bias=True, **KL),
            layers.Dropout(0.5),
            uq.DenseVariational(2, use_bias=False, posterior="low_rank", **KL),
            uq.DistributionHead(1),
        ]
    )
    model.layers[3].bias.assign([0.1, 0.2, 0.3, 0.4])
    model.layers[1].moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    plain = check(model, SIGNALS)
    kinds = [type(part).__name__ for part in plain.layers]
    assert kinds[:4] == ["Conv1D", "BatchNormalization", "LSTM", "Dense"]


def test_functional_keeps_names_inputs_and_shared_layers():
    a, b = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = uq.DenseVariational(4, "relu", **KL, name="shared")
    both = layers.Concatenate()([shared(a), shared(b)])
    inner_in = keras.Input((8,), name="inner_in")
    inner = keras.Model(
        inner_in, uq.DenseVariational(4, **KL, name="deep")(inner_in), name="inner"
    )
    out = uq.DenseVariational(2, **KL, name="out")(inner(both))
    model = keras.Model({"left": a, "right": b}, out, name="outer")
    x = {"left": X, "right": -X}
    plain = check(model, x)
    assert [i.name for i in plain.inputs] == [i.name for i in model.inputs]
    assert sum(type(part) is layers.Dense for part in plain._flatten_layers()) == 3
    assert plain.get_layer("inner").get_layer("deep").kernel.shape == (8, 4)


def test_inside_wrappers():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.TimeDistributed(uq.DenseVariational(4, **KL, name="hidden")),
            layers.Bidirectional(
                layers.RNN(uq.Variational(layers.GRUCell(3), **KL), name="gru")
            ),
            uq.Variational(
                keras.Sequential([layers.Dense(4), layers.Dropout(0.5)]), **KL
            ),
        ]
    )
    plain = check(model, SIGNALS)
    assert type(plain.layers[0].layer) is layers.Dense
    assert plain.layers[0].layer.name == "hidden"
    assert type(plain.layers[1].forward_layer.cell) is layers.GRUCell


def test_same_names_in_different_wrappers():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.TimeDistributed(uq.DenseVariational(4, **KL, name="same")),
            layers.TimeDistributed(uq.DenseVariational(2, **KL, name="same")),
        ]
    )
    check(model, SIGNALS)


def test_result_is_free_of_the_package(tmp_path):
    """It saves and loads as a model of Keras alone, and compiles again."""
    model = keras.Sequential([keras.Input((3,)), uq.DenseVariational(2, **KL)])
    plain = uq.to_deterministic(model)
    assert "keras_uq_layers" not in plain.to_json()
    assert len(plain.losses) == 0
    plain.compile("adam", "mse", jit_compile=False)
    plain.fit(X, X[:, :2], verbose=0)


def test_unbuilt_model_and_untouched_original():
    model = keras.Sequential([uq.DenseVariational(2, **KL, name="hidden")])
    plain = uq.to_deterministic(model)
    assert type(plain.layers[0]) is layers.Dense
    assert not plain.built
    model(X)
    before = [to_numpy(w).copy() for w in model.weights]
    model.trainable = False
    plain = uq.to_deterministic(model)
    assert plain.trainable_weights == []
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)


class Unregistered(layers.Layer):
    """A user's layer that was never registered."""

    def call(self, inputs):
        return 2.0 * inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class Noisy(Unregistered):
    """Random at inference, as far as anyone can tell."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator)
        return inputs + noise


class Quiet(Noisy):
    """A user's random layer that takes part."""

    def deterministic(self):
        return layers.Identity(name=self.name), None


def test_user_layers():
    model = keras.Sequential(
        [keras.Input((3,)), Unregistered(), Quiet(), layers.Lambda(lambda x: x + 1)]
    )
    plain = uq.to_deterministic(model)
    np.testing.assert_allclose(to_numpy(plain(X)), 2.0 * X + 1.0, rtol=1e-6)
    with pytest.raises(ValueError, match="Noisy draws random numbers"):
        uq.to_deterministic(keras.Sequential([keras.Input((3,)), Noisy()]))


@pytest.mark.parametrize("kind", ["Dropout", "GaussianNoise", "GaussianDropout"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_random_layer_called_in_training_is_called_at_inference(kind, nested):
    """It draws at inference, and only the graph says so, not its config."""
    random = getattr(layers, kind)(0.5)
    if nested:
        random = keras.Sequential([layers.Dense(3), random])
    inputs = keras.Input((3,))
    params = uq.DistributionHead(1)(random(inputs, training=True))
    model = keras.Model(inputs, params)
    outer = keras.Sequential([keras.Input((3,)), model])
    expected = model.predict(X, verbose=0)  # Keras ignores the argument there
    for found in (model, outer):
        plain = uq.to_deterministic(found)
        for training in (None, False):
            got = to_numpy(plain(X, training=training))
            np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert (uq.predict(plain, X, verbose=0).epistemic_std == 0).all()
        again = keras.models.clone_model(plain)
        again.set_weights(plain.get_weights())
        np.testing.assert_allclose(to_numpy(again(X)), expected, rtol=1e-5)
        assert (uq.predict(found, X, samples=9, verbose=0).epistemic_std > 0).any()


def test_other_calls_in_training_are_kept():
    """Batch statistics are no noise; an augmentation has `True` as its default."""
    inputs = keras.Input((4, 4, 1))
    flipped = layers.RandomFlip()(inputs)
    outputs = layers.BatchNormalization()(flipped, training=True)
    model = keras.Model(inputs, outputs)
    x = RNG.normal(size=(5, 4, 4, 1)).astype("float32")
    expected = to_numpy(model(x, training=False))
    np.testing.assert_allclose(
        to_numpy(uq.to_deterministic(model)(x, training=False)), expected, rtol=1e-5
    )


def test_low_rank_kernels_that_are_random():
    """`build` of Keras 3.15 forgets `lora_alpha`, and a file the kernels."""
    inner = layers.Dense(2, lora_rank=1, lora_alpha=5, name="inner")
    model = keras.Sequential([keras.Input((3,)), uq.Variational(inner, **KL)])
    model.layers[0].layer.lora_kernel_b.assign([[1.0, -1.0]])
    plain = check(model, X)
    assert plain.layers[0].lora_alpha == 5


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = uq.DenseVariational(2, **KL)

    def call(self, inputs):
        return self.hidden(inputs)


def test_subclassed_models_are_an_error():
    with pytest.raises(ValueError, match="must be a Sequential or Functional model"):
        uq.to_deterministic(Subclassed())
    with pytest.raises(ValueError, match="of class Subclassed"):
        uq.to_deterministic(keras.Sequential([Subclassed()]))
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        uq.to_deterministic(layers.Dense(2))


def test_the_members_of_an_ensemble_are_converted():
    def member():
        return keras.Sequential(
            [keras.Input((3,)), uq.DenseVariational(4, **KL), uq.DistributionHead(1)]
        )

    ensemble = uq.Ensemble(member, members=2)
    plain = uq.to_deterministic(ensemble)
    assert isinstance(plain, uq.Ensemble)
    expected = [to_numpy(uq.to_deterministic(m)(X)) for m in ensemble.members]
    np.testing.assert_allclose(
        to_numpy(plain(X)), np.stack(expected, axis=1), rtol=1e-6
    )


def test_an_ensemble_of_trained_models():
    """It is built, unlike the ensemble that is made of its config."""
    members = [
        keras.Sequential([keras.Input((3,)), uq.DenseVariational(2, **KL)])
        for _ in range(2)
    ]
    ensemble = uq.Ensemble.from_models(members)
    ensemble(X)
    plain = uq.to_deterministic(ensemble)
    expected = [to_numpy(uq.to_deterministic(m)(X)) for m in members]
    np.testing.assert_allclose(
        to_numpy(plain(X)), np.stack(expected, axis=1), rtol=1e-6
    )


def test_hidden_random_layer_is_an_error():
    """A layer that makes a random layer itself: its config does not tell."""

    class Hiding(Unregistered):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = uq.DenseVariational(3, **KL)

        def build(self, input_shape):
            self.hidden.build(input_shape)

        def call(self, inputs):
            return self.hidden(inputs)

    model = keras.Sequential([keras.Input((3,)), Hiding()])
    with pytest.raises(ValueError, match="A layer to replace is left"):
        uq.to_deterministic(model)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_layer_of_the_package_has_a_counterpart(case):
    """One that is random at inference must not be overlooked."""
    make_input = case.expect.get("make_input", uq.testing.generic_input)
    x = make_input(case.input_shape)
    model = keras.Sequential([keras.Input(x.shape[1:]), case.make()])
    plain = uq.to_deterministic(model)
    assert to_numpy(plain(x)).shape == to_numpy(model(x)).shape
    np.testing.assert_array_equal(to_numpy(plain(x)), to_numpy(plain(x)))
