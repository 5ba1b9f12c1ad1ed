"""`to_bayesian`: a trained model whose weights become random."""

import inspect
import re

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import layers

import keras_uq_layers as uq
from keras_uq_layers.conversion.to_bayesian import CONVERTED

RNG = np.random.default_rng(0)
X = RNG.uniform(0.0, 3.0, size=(3, 4, 3)).astype("float32")
IDS = np.array([[1, 2, 0, 0], [4, 3, 2, 0], [1, 2, 3, 4]])
KL = {"kl_weight": 0.01}


def train(model):
    """Weights that no initializer gives, as a stand-in for training."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def random_layers(model):
    return [p for p in model._flatten_layers() if hasattr(p, "random_weights")]


def total_kl(model):
    return sum(float(to_numpy(layer.kl())) for layer in random_layers(model))


def kl_by_hand(model, prior_scale=1.0):
    """Posterior and prior have the same centre."""
    scales = np.concatenate(
        [
            scale.ravel().astype("float64") / prior_scale
            for layer in random_layers(model)
            for scale in layer.posterior.scale.values()
        ]
    )
    return (scales**2 / 2 - np.log(scales) - 0.5).sum()


def without_calls(config):
    """`DenseVariational` takes `training`, and the call says that it was False."""
    return config.replace('{"training": false}', "{}")


def check(model, x, **options):
    """Same output at the means, same names, the KL by hand, nothing changed."""
    expected = to_numpy(model(x))
    before = [to_numpy(w).copy() for w in model.weights]
    converted = uq.to_bayesian(model, **KL, **options)
    back = uq.to_deterministic(converted)
    np.testing.assert_allclose(to_numpy(back(x)), expected, rtol=1e-5, atol=1e-6)
    assert without_calls(back.to_json()) == without_calls(model.to_json())
    assert [part.name for part in converted.layers] == [p.name for p in model.layers]
    assert np.abs(to_numpy(converted(x)) - to_numpy(converted(x))).max() > 1e-4
    kl = total_kl(converted)
    assert kl == pytest.approx(kl_by_hand(converted), rel=1e-5)
    total = sum(float(to_numpy(loss)) for loss in converted.losses)
    kept = sum(float(to_numpy(loss)) for loss in model.losses)
    assert total == pytest.approx(0.01 * kl + kept, rel=1e-5)
    assert not {id(w) for w in converted.weights} & {id(w) for w in model.weights}
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)
    return converted


# Every layer of Keras with a kernel

_SIZES = {
    "units": 2,
    "filters": 2,
    "kernel_size": 1,
    "num_heads": 1,
    "key_dim": 2,
    "head_dim": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "input_dim": 3,
    "output_dim": 2,
}
_EINSUM = {"equation": "abc,cd->abd", "output_shape": (None, 2)}
# The shape of `X` for the layers that do not take `(batch, time, features)`.
_SHAPES = {
    **dict.fromkeys(["Conv2D", "Conv2DTranspose"], (2, 2, 3)),
    **dict.fromkeys(["DepthwiseConv2D", "SeparableConv2D"], (2, 2, 3)),
    **dict.fromkeys(["Conv3D", "Conv3DTranspose"], (2, 2, 1, 3)),
    "ConvLSTM1D": (2, 2, 3),
    "ConvLSTM2D": (2, 2, 1, 3),
    "ConvLSTM3D": (2, 2, 1, 1, 3),
}
_KERNELS = ("kernel_initializer", "embeddings_initializer", "depthwise_initializer")


def test_no_layer_of_keras_with_a_kernel_is_missing():
    found = {
        cls
        for cls in vars(layers).values()
        if isinstance(cls, type)
        and set(_KERNELS) & set(inspect.signature(cls.__init__).parameters)
    }
    assert {cls for cls in found if not issubclass(cls, CONVERTED)} == set()
    assert set(CONVERTED) <= found


def branch(cls, inputs):
    name = cls.__name__
    arguments = inspect.signature(cls.__init__).parameters
    sizes = {k: v for k, v in _SIZES.items() if k in arguments}
    if cls is layers.EinsumDense:
        sizes = _EINSUM
    h = layers.Reshape(_SHAPES.get(name, X.shape[1:]))(inputs)
    if "Attention" in name:
        return cls(**sizes, name=name)(h, h)
    if name.endswith("Cell"):
        return layers.RNN(cls(**sizes, name=name))(h)
    return cls(**sizes, name=name)(h)


@pytest.fixture(scope="module")
def every_layer():
    """A model with a branch for each class, and the same one converted."""
    inputs = keras.Input(X.shape[1:])
    branches = [layers.Flatten()(branch(cls, inputs)) for cls in CONVERTED]
    model = train(keras.Model(inputs, layers.Concatenate()(branches)))
    return model, check(model, X)


def test_each_becomes_random(every_layer):
    model, converted = every_layer
    found = random_layers(converted)
    assert {layer.name for layer in found} == {cls.__name__ for cls in CONVERTED}
    # Of the trainable weights all are random, and none of the others.
    means = sum(mean.size for p in found for mean in p.posterior.mean.values())
    assert means == sum(np.prod(w.shape) for w in model.trainable_variables)
    native = {p.name for p in found if not isinstance(p, uq.Variational)}
    assert native == {"Dense", "Conv1D", "Conv2D", "Conv3D"}


def test_each_is_loaded_as_it_was_saved(every_layer, tmp_path):
    """With the centres of the priors, wherever training has moved the means."""
    _, converted = every_layer
    for layer in random_layers(converted):
        for variable in layer.trainable_variables:
            variable.assign(0.9 * to_numpy(variable))
    converted.save(tmp_path / "model.keras")
    expected = to_numpy(converted(X))
    kls = [to_numpy(layer.kl()) for layer in random_layers(converted)]
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(to_numpy(loaded(X)), expected, rtol=1e-5, atol=1e-6)
    found = [to_numpy(layer.kl()) for layer in random_layers(loaded)]
    np.testing.assert_allclose(found, kls, rtol=1e-5)


# Models


def text_model():
    """Masks, wrappers, attention, a nested and a shared layer, batch statistics."""
    codes = keras.Input((4,), dtype="int32")
    h = layers.Embedding(5, 4, mask_zero=True, name="embedding")(codes)
    h = layers.Bidirectional(
        layers.LSTM(2, return_sequences=True, name="lstm"), name="both"
    )(h)
    attention = layers.MultiHeadAttention(2, 2, name="attention")
    h = layers.LayerNormalization()(h + attention(h, h, use_causal_mask=True))
    shared = layers.TimeDistributed(layers.Dense(4, "relu", name="inside"))
    h = layers.Add()([shared(h), shared(shared(h))])
    h = layers.GRU(4, name="memory")(h)
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="inside"), layers.BatchNormalization()]
    )
    model = keras.Model(codes, layers.Dense(3, "softmax", name="last")(inner(h)))
    train(model)
    norm = inner.layers[-1]
    norm.moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    norm.moving_variance.assign([0.5, 1.5, 2.5, 0.7])
    return model


def test_a_model_of_text(tmp_path):
    model = text_model()
    converted = check(model, IDS)
    names = [layer.name for layer in random_layers(converted)]
    assert " ".join(sorted(names)) == (
        "attention backward_lstm embedding forward_lstm inside inside last memory"
    )
    # Masked steps are as if they were not there, whatever stands in them.
    back = uq.to_deterministic(converted)
    padded = np.pad(IDS[:1, :2], [[0, 0], [0, 5]])
    np.testing.assert_allclose(
        to_numpy(back(padded[:, :4])), to_numpy(back(IDS[:1])), rtol=1e-5
    )
    # A step of training moves every weight, and the scales.
    loss = "sparse_categorical_crossentropy"
    # Compiled on JAX, where a step frees the buffers that it has replaced.
    eager = keras.backend.backend() != "jax"
    converted.compile("adam", loss, run_eagerly=eager, jit_compile=not eager)
    expected = to_numpy(model(IDS))
    before = [to_numpy(v).copy() for v in converted.trainable_variables]
    converted.train_on_batch(IDS, np.array([0, 1, 2]))
    for old, variable in zip(before, converted.trainable_variables, strict=True):
        assert (to_numpy(variable) != old).any(), variable.path
    np.testing.assert_array_equal(to_numpy(model(IDS)), expected)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(
        to_numpy(loaded(IDS)), to_numpy(converted(IDS)), rtol=1e-5
    )


def images(**options):
    return train(
        keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Normalization(mean=[1.0, 2.0], variance=[3.0, 4.0]),
                layers.Conv2D(4, 3, padding="same", name="conv", **options),
                layers.BatchNormalization(name="norm"),
                layers.SeparableConv2D(4, 3, activation="relu", name="separable"),
                layers.Dropout(0.2),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, "softmax", name="last"),
            ]
        )
    )


IMAGES = RNG.normal(size=(3, 6, 6, 2)).astype("float32")


def test_regularizers_and_constraints_are_kept():
    options = {"kernel_regularizer": keras.regularizers.L2(0.1), "use_bias": False}
    options["kernel_constraint"] = keras.constraints.MaxNorm(9.0)
    converted = check(images(**options), IMAGES)
    conv = converted.get_layer("conv")
    assert isinstance(conv, uq.Variational)
    assert conv.layer.kernel_constraint.max_value == 9.0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = images()
    expected = to_numpy(model(IMAGES))
    converted = uq.to_bayesian(model, **KL)
    keras.config.set_dtype_policy("float32")
    assert [p.dtype_policy.name for p in converted.layers] == [
        p.dtype_policy.name for p in model.layers
    ]
    assert {str(v.dtype) for v in converted.trainable_variables} == {"float32"}
    back = to_numpy(uq.to_deterministic(converted)(IMAGES))
    np.testing.assert_array_equal(back, expected)
    kl = total_kl(converted)
    assert kl == pytest.approx(kl_by_hand(converted), rel=1e-5)


def test_options_reach_the_layers():
    converted = uq.to_bayesian(
        images(), **KL, estimator="reparameterization", prior_scale=0.3
    )
    assert converted.get_layer("conv").estimator == "reparameterization"
    kl = total_kl(converted)
    assert kl == pytest.approx(kl_by_hand(converted, 0.3), rel=1e-5)
    for posterior in ("mean_field", uq.posteriors.LowRankNormal(rank=1)):
        converted = uq.to_bayesian(
            images(), **KL, posterior=posterior, initial_scale=0.02
        )
        for layer in random_layers(converted):
            assert to_numpy(layer.posterior.diagonal()) == pytest.approx(0.02, rel=1e-3)
    assert posterior.initial_scale is None  # the user's object is left as it is


def test_the_members_of_an_ensemble():
    ensemble = uq.Ensemble(
        lambda: keras.Sequential([keras.Input((2,)), layers.Dense(2)]), members=2
    )
    converted = uq.to_bayesian(ensemble, **KL)
    assert len(random_layers(converted)) == 2
    x = RNG.normal(size=(3, 2)).astype("float32")
    np.testing.assert_allclose(
        to_numpy(uq.to_deterministic(converted)(x)), to_numpy(ensemble(x)), rtol=1e-6
    )


# Which layers


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """A user's layer that makes layers itself: its config does not tell."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(4, name="hidden")

    def build(self, input_shape):
        self.hidden.build(input_shape)

    def call(self, inputs):
        return self.hidden(inputs)


def selection_model():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, "relu", name="first"),
            layers.Dense(4, "relu", name="frozen", trainable=False),
            layers.BatchNormalization(name="norm"),
            keras.Sequential([keras.Input((4,)), layers.Dense(4, name="deep")]),
            Block(name="block"),
            layers.Dropout(0.1, name="dropout"),
            uq.DenseVariational(4, **KL, name="random"),
            uq.DistributionHead(1, name="head"),
        ]
    )


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("first", ["first"]),
        (["deep", "block"], ["deep", "block"]),
        (Block, ["block"]),
        ([layers.Dense, Block], ["first", "deep", "block"]),
        ([layers.BatchNormalization, "head"], ["norm", "head"]),
        (lambda layer: layer.count_params() == 16, ["norm"]),
    ],
)
def test_layers_are_chosen(chosen, names):
    model = selection_model()
    x = np.ones((3, 4), "float32")
    converted = uq.to_bayesian(model, **KL, layers=chosen)
    found = [layer.name for layer in random_layers(converted)]
    assert sorted(found) == sorted([*names, "random"])
    np.testing.assert_allclose(
        to_numpy(uq.to_deterministic(converted)(x)),
        to_numpy(uq.to_deterministic(model)(x)),
        rtol=1e-5,
    )


def test_a_random_head_says_how_to_read_it():
    model = keras.Sequential([keras.Input((4,)), uq.DistributionHead(1, name="head")])
    converted = uq.to_bayesian(model, **KL, layers="head", initial_scale=0.3)
    x = np.ones((3, 4), "float32")
    prediction = uq.predict(converted, x, samples=3, verbose=0)
    assert prediction.mean.shape == (3, 1)
    assert (prediction.epistemic_std > 0.01).all()
    assert (prediction.aleatoric_std > 0.01).all()


# LoRA


@pytest.mark.parametrize("saved", [False, True])
def test_low_rank_kernels_alone_become_random(saved, tmp_path):
    inputs = keras.Input((4,), dtype="int32")
    h = layers.Embedding(5, 3, name="embedding")(inputs)
    h = layers.EinsumDense("abc,cd->abd", (4, 4), bias_axes="d", name="einsum")(h)
    h = layers.Conv1D(3, 2, name="conv")(h)
    h = layers.Dense(3, name="plain")(layers.Flatten()(h))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(h))
    named = ("embedding", "einsum", "conv", "dense")
    for name in named:
        model.get_layer(name).enable_lora(2, lora_alpha=3)
    train(model)
    expected = to_numpy(model(IDS))
    converted = uq.to_bayesian(
        model, **KL, layers=lambda layer: getattr(layer, "lora_enabled", False)
    )
    assert [layer.name for layer in random_layers(converted)] == list(named)
    for layer in random_layers(converted):
        first, second = layer.posterior.mean
        assert first.startswith("lora_")
        assert second.startswith("lora_")
    assert type(converted.get_layer("plain")) is layers.Dense
    if saved:
        # Keras would add the low-rank kernels to the kernel, and forget them.
        converted.save(tmp_path / "model.keras")
        draw = to_numpy(converted(IDS))
        converted = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_allclose(to_numpy(converted(IDS)), draw, rtol=1e-5)
    kl = total_kl(converted)
    assert kl == pytest.approx(kl_by_hand(converted), rel=1e-5)
    assert np.abs(to_numpy(converted(IDS)) - expected).max() > 1e-3
    back = uq.to_deterministic(converted)
    np.testing.assert_allclose(to_numpy(back(IDS)), expected, rtol=1e-5, atol=1e-6)
    assert type(back.get_layer("dense")) is layers.Dense
    assert back.get_layer("dense").lora_enabled


# Errors


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (None, "A layer to replace is left .*name=hidden.* in <Block name=block"),
        ("hidden", "A layer to replace is left"),
        ("nothing", "`layers` must match layers of the model. Received: 'nothing', an"),
        (layers.LSTM, "`layers` must match layers of the model. Received: <class"),
        ("frozen", "'frozen', and <Dense .* of class Dense has no trainable weights"),
        (layers.Dropout, "of class Dropout has no trainable weights"),
        ("random", "of class DenseVariational is random already"),
        (keras.Sequential, "of class Sequential is a model, whose layers can be"),
        (lambda layer: False, "`layers` must select a layer with trainable weights"),
        (3, "`layers` must be None, names and classes of layers, or a function"),
        ([layers.Dense(2)], "`layers` must be None, names and classes of layers"),
    ],
)
def test_layers_that_cannot_be_chosen_are_an_error(chosen, message):
    with pytest.raises(ValueError, match=message):
        uq.to_bayesian(selection_model(), **KL, layers=chosen)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def dense_model(**options):
    return keras.Sequential([keras.Input((3,)), layers.Dense(2, **options)])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (layers.Dense(2), {}, "`model` must be a Keras model"),
        (Subclassed(), {}, "must be a Sequential or Functional model"),
        (keras.Sequential([layers.Dense(2)]), {}, "`model` must be built: call it on"),
        (dense_model(trainable=False), {}, "`layers` must select a layer with train"),
        (dense_model(), {"kl_weight": None}, "`kl_weight` must be given"),
        (dense_model(), {"kl_weight": -1.0}, "`kl_weight` must be a non-negative"),
        (dense_model(), {"prior_scale": 0.0}, "`prior_scale` must be a positive"),
        (dense_model(), {"initial_scale": 0.0}, "`initial_scale` must be a positive"),
        (dense_model(), {"posterior": "normal"}, "`posterior` must be one of"),
        (dense_model(), {"estimator": "best"}, "`estimator` must be one of"),
        (
            dense_model(),
            {"estimator": "flipout", "posterior": "low_rank"},
            "flipout and local reparameterization need independent weights",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_wrong_arguments_are_an_error(model, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        uq.to_bayesian(model, **{**KL, **options})


def test_two_layers_of_one_name_that_are_treated_differently_are_an_error():
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.TimeDistributed(layers.Dense(2, name="same")),
            layers.TimeDistributed(layers.Dense(3, name="same", trainable=False)),
        ]
    )
    with pytest.raises(ValueError, match="Received: two layers 'same' of class Dense"):
        uq.to_bayesian(model, **KL)
