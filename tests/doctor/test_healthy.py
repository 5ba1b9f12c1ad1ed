"""Healthy models of many kinds, of which nothing bad may be said."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_uq_layers as uq

ROWS = 48
NLL = uq.losses.NegativeLogLikelihood


def table(features=4):
    return np.random.default_rng(0).normal(size=(ROWS, features)).astype("float32")


def target(x):
    noise = np.random.default_rng(1).normal(size=len(x))
    return (x.reshape(len(x), -1)[:, 0] + 0.3 * noise).astype("float32")


def labels(x, classes):
    return (np.arange(len(x)) + (x.reshape(len(x), -1)[:, 0] > 0)) % classes


def regression(*parts, loss="mse", x=None, y=None, **options):
    x = table() if x is None else x
    return keras.Sequential(list(parts)), loss, x, target(x) if y is None else y


def dense():
    return regression(layers.Dense(8, "relu"), layers.Dense(1))


def dense_column():
    x = table()
    return regression(
        layers.Dense(8, "tanh"), layers.Dense(1), x=x, y=target(x)[:, None]
    )


def huber_of_two_outputs():
    x = table()
    return regression(
        layers.Dense(8, "gelu"), layers.Dense(2), loss="huber", y=x[:, :2]
    )


def convolutional():
    x = np.random.default_rng(0).normal(size=(ROWS, 8, 8, 2)).astype("float32")
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(3, "softmax"),
        ]
    )
    return model, "sparse_categorical_crossentropy", x, labels(x, 3)


def recurrent(cell):
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype("float32")
    return regression(cell, layers.Dense(1), x=x)


def masked_sequence():
    x = np.random.default_rng(0).integers(0, 9, (ROWS, 6))
    x[:, 4:] = 0
    y = np.random.default_rng(1).normal(size=(ROWS, 6, 1)).astype("float32")
    return regression(
        layers.Embedding(9, 4, mask_zero=True),
        layers.GRU(5, return_sequences=True),
        uq.DistributionHead(1),
        loss=NLL(),
        x=x,
        y=y,
    )


def attention():
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 4)).astype("float32")
    inputs = keras.Input((5, 4))
    hidden = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    hidden = layers.LayerNormalization()(hidden + inputs)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(inputs, layers.Dense(1)(hidden)), "mse", x, target(x)


def text_classifier():
    x = np.random.default_rng(0).integers(0, 20, (ROWS, 7))
    model = keras.Sequential(
        [
            layers.Embedding(20, 4),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(1, "sigmoid"),
        ]
    )
    return model, "binary_crossentropy", x, (x[:, 0] > 9).astype("float32")


def binary_logits():
    x = table()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return regression(
        layers.Dense(8, "relu"), layers.Dense(1), loss=loss, y=x[:, :1] > 0
    )


def one_hot_logits():
    x = table()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    y = np.eye(3, dtype="float32")[labels(x, 3)]
    return regression(layers.Dense(8, "relu"), layers.Dense(3), loss=loss, y=y)


def mixed(policy):
    keras.config.set_dtype_policy(policy)
    return regression(
        layers.Dense(8, "relu"),
        layers.Dense(8, "tanh"),
        uq.DistributionHead(1),
        loss=NLL(),
    )


def two_outputs():
    x = table()
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, "relu")(inputs)
    model = keras.Model(
        inputs,
        {
            "value": uq.DistributionHead(1, name="value")(hidden),
            "kind": layers.Dense(3, "softmax", name="kind")(hidden),
        },
    )
    loss = {"value": NLL(), "kind": "sparse_categorical_crossentropy"}
    return model, loss, x, {"value": target(x), "kind": labels(x, 3)}


def two_inputs():
    a, b = keras.Input((4,)), keras.Input((2,))
    shared = layers.Dense(3, "relu")
    both = layers.Concatenate()([shared(a), shared(layers.Dense(4)(b))])
    x = table()
    return keras.Model([a, b], layers.Dense(1)(both)), "mae", [x, x[:, :2]], target(x)


def autoencoder():
    x = (table(6) > 0).astype("float32")
    return regression(
        layers.Dense(3, "relu"), layers.Dense(6, "sigmoid"), loss="binary_crossentropy",
        x=x, y=x,
    )  # fmt: skip


@keras.saving.register_keras_serializable(package="tests")
class ResidualBlock(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, "relu")
        self.second = layers.Dense(units)
        self.scale = None

    def build(self, shape):
        # A residual branch that starts as the identity.
        self.scale = self.add_weight(shape=(self.units,), initializer="zeros")
        self.first.build(shape)
        self.second.build((*shape[:-1], self.units))

    def call(self, x):
        return x + self.scale * self.second(self.first(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = ResidualBlock(4)
        self.dropout = layers.Dropout(0.2)
        self.out = layers.Dense(1)

    def call(self, x, training=False):
        return self.out(self.dropout(self.block(x), training=training))


def subclassed():
    x = table()
    return Subclassed(), "mse", x, target(x)


def nested():
    inner = keras.Sequential([layers.Dense(4, "relu"), layers.BatchNormalization()])
    return regression(inner, layers.Dense(3, kernel_regularizer="l2"), layers.Dense(1))


def normalized_inputs():
    x = 100 + 30 * table()
    norm = layers.Normalization()
    norm.adapt(x)
    return regression(
        norm, layers.Dense(8, "tanh"), layers.Dense(1), x=x, y=target(table())
    )


def head(family="normal", y=None):
    x = table()
    parts = layers.Dense(8, "tanh"), uq.DistributionHead(1, family=family)
    return regression(*parts, loss=NLL(family), y=target(x) if y is None else y)


def adapted_head():
    y = 1e4 + 300 * target(table())
    last = uq.DistributionHead(1)
    last.adapt(y)
    return regression(layers.Dense(8, "tanh"), last, loss=NLL(), y=y)


def small_unit():
    y = 1e-2 * target(table())
    last = uq.ConstantVarianceHead(1, trainable_scale=True)
    last.adapt(y)
    return regression(layers.Dense(8, "tanh"), last, loss=NLL(), y=y)


def variational(**options):
    weight = {"kl_weight": 1 / ROWS}
    return regression(
        uq.DenseVariational(8, activation="tanh", **weight, **options),
        uq.DenseVariational(4, activation="tanh", **weight, **options),
        uq.DistributionHead(1),
        loss=NLL(),
    )


def variational_recurrent():
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype("float32")
    cell = uq.Variational(layers.LSTM(3), kl_weight=1 / ROWS)
    return regression(cell, uq.DistributionHead(1), loss=NLL(), x=x)


def shared_variational():
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype("float32")
    y = x[..., :1]
    return regression(
        layers.TimeDistributed(uq.DenseVariational(4, kl_weight=1 / (5 * ROWS))),
        layers.TimeDistributed(uq.DistributionHead(1)),
        loss=NLL("normal"),
        x=x,
        y=y,
    )


def monte_carlo_dropout():
    return regression(
        layers.Dense(16, "relu"), uq.MCDropout(0.2), uq.DistributionHead(1), loss=NLL()
    )


def concrete_dropout():
    return regression(
        uq.ConcreteDropout(layers.Dense(16, "relu"), kl_weight=1 / ROWS),
        uq.DistributionHead(1),
        loss=NLL(),
    )


def ensemble():
    x = table()

    def build():
        return keras.Sequential([layers.Dense(8, "tanh"), uq.DistributionHead(1)])

    return uq.Ensemble(build, members=2), NLL(), x, target(x)


def survival_times():
    """Targets with open ends, which each member of an ensemble compares."""
    family = uq.families.Interval("weibull")

    def build():
        return keras.Sequential([keras.Input((4,)), uq.DistributionHead(1, family)])

    x = table()
    y = uq.targets.survival(np.exp(target(x)), np.arange(len(x)) % 3 > 0)
    return uq.Ensemble(build, 2), NLL(), x, y


def autoencoder_with_latent():
    x = table(6)
    return regression(
        layers.Dense(8, "relu"),
        uq.DistributionHead(2),
        uq.NormalSampling(),
        layers.Dense(8, "relu"),
        uq.ConstantVarianceHead(6, trainable_scale=True),
        loss=NLL(),
        x=x,
        y=x,
    )


def likelihood():
    x = 3 + 0.5 * table(2)
    return keras.Sequential([uq.NormalLikelihood(add_nll=True)]), None, x, None


def bump():
    x = table(1)
    return regression(uq.BumpLayer(), layers.Dense(1), x=x)


def kendall_gal(y_true, y_pred):
    loc, log_variance = y_pred[:, :1], y_pred[:, 1:]
    square = ops.square(ops.reshape(y_true, (-1, 1)) - loc)
    return ops.mean(0.5 * ops.exp(-log_variance) * square + 0.5 * log_variance)


def custom_likelihood():
    return regression(layers.Dense(8, "tanh"), layers.Dense(2), loss=kendall_gal)


def laplace_likelihood(y_true, y_pred):
    loc, log_scale = y_pred[:, :1], y_pred[:, 1:]
    residual = ops.abs(ops.reshape(y_true, (-1, 1)) - loc)
    return ops.mean(ops.exp(-log_scale) * residual + log_scale)


def custom_laplace():
    return regression(layers.Dense(8, "tanh"), layers.Dense(2), loss=laplace_likelihood)


MODELS = {
    "dense": dense,
    "dense column": dense_column,
    "two values": huber_of_two_outputs,
    "convolutional": convolutional,
    "lstm": lambda: recurrent(layers.LSTM(4)),
    "gru with dropout": lambda: recurrent(layers.GRU(4, recurrent_dropout=0.2)),
    "simple rnn": lambda: recurrent(layers.SimpleRNN(4)),
    "masked sequence": masked_sequence,
    "attention": attention,
    "text": text_classifier,
    "binary logits": binary_logits,
    "one-hot logits": one_hot_logits,
    "mixed float16": lambda: mixed("mixed_float16"),
    "mixed bfloat16": lambda: mixed("mixed_bfloat16"),
    "two outputs": two_outputs,
    "two inputs, shared layer": two_inputs,
    "autoencoder": autoencoder,
    "subclassed": subclassed,
    "nested": nested,
    "normalized inputs": normalized_inputs,
    "normal head": head,
    "student t head": lambda: head("student_t"),
    "poisson head": lambda: head("poisson", labels(table(), 5).astype("float32")),
    "categorical head": lambda: regression(
        layers.Dense(8, "relu"),
        uq.DistributionHead(3, "categorical"),
        loss=NLL("categorical"),
        y=labels(table(), 3),
    ),
    "adapted head": adapted_head,
    "small unit": small_unit,
    "variational": variational,
    "full covariance": lambda: variational(posterior="full_covariance"),
    "scale mixture": lambda: variational(prior="scale_mixture"),
    "variational lstm": variational_recurrent,
    "shared variational": shared_variational,
    "mc dropout": monte_carlo_dropout,
    "concrete dropout": concrete_dropout,
    "ensemble": ensemble,
    "ensemble of survival times": survival_times,
    "variational autoencoder": autoencoder_with_latent,
    "likelihood layer": likelihood,
    "bump": bump,
    "likelihood of the user": custom_likelihood,
    "laplace of the user": custom_laplace,
}


@pytest.mark.filterwarnings("ignore:.*build.*:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_nothing_bad_is_said(name):
    model, loss, x, y = MODELS[name]()
    model.compile(keras.optimizers.Adam(3e-3), loss, run_eagerly=True)
    before = uq.diagnose(model, x, y)
    assert before.ok, before
    model.fit(x, y, batch_size=24, epochs=2, verbose=0)
    after = uq.diagnose(model, x, y)
    assert after.ok, after
    assert "check-skipped" not in before.codes + after.codes, after
