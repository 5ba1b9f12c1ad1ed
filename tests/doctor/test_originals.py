"""The five questions as they were asked, built in Keras 3: each is named."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_uq_layers as uq


def codes(*args, **kwargs):
    diagnosis = uq.diagnose(*args, **kwargs)
    print(diagnosis)
    return {finding.code for finding in diagnosis.problems}


# 1. A bump whose width is learned


class BumpInCondition(layers.Layer):
    """The width only in the condition: it has no gradient."""

    def build(self, shape):
        self.sigma = self.add_weight(name="sigma", shape=(), initializer="ones")

    def call(self, x):
        return ops.where(ops.abs(x) < self.sigma, ops.exp(-1 / (1 + x**2)), 0.0)


class NaiveBump(BumpInCondition):
    """Now it has one, and `where` lets the NaN of the other branch pass."""

    def call(self, x):
        inside = ops.exp(-self.sigma / (self.sigma - x**2))
        return ops.where(ops.abs(x) < self.sigma, inside, 0.0)


def bump_data():
    x = np.linspace(-0.99, 2.0, 64, dtype="float32")[:, None]
    x[-1] = 1.0000001  # just outside, where the other branch overflows
    return x, np.exp(-1 / (1.1 - np.clip(x, -1, 1) ** 2))


def test_the_width_in_the_condition():
    model = keras.Sequential([BumpInCondition(name="bump")])
    diagnosis = uq.diagnose(model, *bump_data(), "mse")
    code = "zero-gradient" if keras.backend.backend() == "jax" else "no-gradient"
    assert [f.code for f in diagnosis.problems] == [code]
    assert "bump" in diagnosis.problems[0].path


def test_the_width_in_both_branches():
    model = keras.Sequential([NaiveBump(name="bump")])
    diagnosis = uq.diagnose(model, *bump_data(), "mse")
    (problem,) = diagnosis.problems
    assert problem.code == "gradient-not-finite"
    assert problem.path.endswith("bump")


# 2. A normal likelihood with two learned scalars


class ConstantLikelihood(layers.Layer):
    """The weights are indexed in `build`: constants, from then on."""

    def build(self, shape):
        self.mu = self.add_weight(name="mu", shape=(1,), initializer="zeros")
        self.sigma = self.add_weight(name="sigma", shape=(1,), initializer="ones")
        self.loc = ops.convert_to_numpy(self.mu)[0]
        self.scale = ops.convert_to_numpy(self.sigma)[0]

    def density(self, x, loc, scale):
        z = (x - loc) / scale
        return ops.exp(-0.5 * z**2) / (scale * float(np.sqrt(2 * np.pi)))

    def call(self, x):
        density = ops.clip(self.density(x, self.loc, self.scale), 1e-3, 1 - 1e-3)
        self.add_loss(-ops.mean(ops.log(density)))
        return density


class ClippedLikelihood(ConstantLikelihood):
    """The weights are used, and the clip takes their gradient."""

    def call(self, x):
        density = ops.clip(self.density(x, self.mu, self.sigma), 1e-3, 1 - 1e-3)
        self.add_loss(-ops.mean(ops.log(density)))
        return density


def test_weights_that_left_the_graph():
    model = keras.Sequential([ConstantLikelihood()])
    x = np.random.default_rng(0).normal(size=(4, 100)).astype("float32")
    jax = keras.backend.backend() == "jax"
    assert codes(model, x) == {"zero-gradient" if jax else "no-gradient"}


def test_a_clipped_density_has_no_gradient():
    model = keras.Sequential([ClippedLikelihood()])
    x = 20 + np.random.default_rng(0).normal(size=(4, 100)).astype("float32")
    assert codes(model, x) == {"zero-gradient"}


# 3. Variational regression with a posterior that starts too wide


class WideVariational(layers.Layer):
    """A full covariance: softplus of about `start` on its diagonal and below."""

    def __init__(self, units, activation=None, kl_weight=1.0, start=0.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.kl_weight, self.start = units, kl_weight, start
        self.activation = keras.activations.get(activation)
        self.seed_generator = keras.random.SeedGenerator(0)

    def build(self, shape):
        n = (shape[-1] + 1) * self.units
        self.loc = self.add_weight(name="loc", shape=(n,), initializer="normal")
        self.raw = self.add_weight(name="raw", shape=(n, n), initializer="normal")
        self.eye = ops.eye(n)

    def call(self, x):
        triangle = ops.tril(ops.softplus(self.raw + self.start))
        noise = keras.random.normal((self.loc.shape[0],), seed=self.seed_generator)
        weights = self.loc + ops.matmul(triangle, noise)
        diagonal = ops.sum(self.eye * triangle, axis=-1)
        log_q = -ops.sum(ops.log(diagonal)) - 0.5 * ops.sum(noise**2)
        log_p = -0.5 * ops.sum(weights**2)
        self.add_loss(self.kl_weight * (log_q - log_p))
        kernel = ops.reshape(weights[: -self.units], (-1, self.units))
        return self.activation(ops.matmul(x, kernel) + weights[-self.units :])

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "kl_weight": self.kl_weight,
            "start": self.start,
        }


def normal_nll(y, params):
    loc, scale = params[:, :1], ops.softplus(params[:, 1:])
    z = (ops.reshape(y, (-1, 1)) - loc) / scale
    return ops.mean(0.5 * z**2 + ops.log(scale))


def safe_nll(y, params):
    return normal_nll(y, ops.concatenate([params[:, :1], params[:, 1:] + 1], axis=-1))


def test_the_posterior_that_starts_too_wide():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 2, (64, 1)).astype("float32")
    y = x**3 + 0.1 * (2 + x) * rng.normal(size=x.shape)
    model = keras.Sequential(
        [
            WideVariational(16, "relu", 1 / 5000),
            WideVariational(16, "relu", 1 / 5000),
            WideVariational(2, None, 1 / 5000),
        ]
    )
    diagnosis = uq.diagnose(model, x, y, normal_nll)
    assert "posterior-too-wide" in {f.code for f in diagnosis.problems}, diagnosis


def test_a_kl_weight_of_one():
    x = np.random.default_rng(0).normal(size=(64, 1)).astype("float32")
    model = keras.Sequential([WideVariational(16, "relu", start=-6.0)])
    model.add(WideVariational(2, start=-6.0))
    assert "kl-dominates" in codes(model, x, x, safe_nll)


# 4. Mean and log-variance, with a root too many


def root_of_square(y, params):
    mean, log_variance = params[:, :1], params[:, 1:]
    residual = ops.sqrt(ops.square(y - mean))
    return ops.mean(0.5 * ops.exp(-log_variance) * residual + 0.5 * log_variance)


def noisy_sines(n=64):
    rng = np.random.default_rng(0)
    x = rng.uniform(50, 150, (n, 1))
    y = np.sin(x / 15 - 4) + 2 + np.sin(x / 10 - 5) + rng.normal(0, 0.2, x.shape)
    return x, y


def mean_and_variance():
    return keras.Sequential(
        [*[layers.Dense(units, "tanh") for units in (32, 64, 128)], layers.Dense(2)]
    )


def test_the_absolute_residual_on_inputs_that_saturate():
    found = codes(mean_and_variance(), *noisy_sines(), root_of_square)
    assert {"absolute-residual", "saturated"} == found


def test_a_negative_loss_is_explained():
    x, y = noisy_sines()
    model = keras.Sequential([uq.ConstantVarianceHead(1, scale=0.01)])
    model.build((None, 1))
    model.layers[0].dense.set_weights([np.zeros((1, 1)), np.array([2.0])])
    y = 2 + 0.01 * (y - 2)
    diagnosis = uq.diagnose(model, x, y, uq.losses.NegativeLogLikelihood())
    assert diagnosis.ok
    assert "negative-loss" in diagnosis.codes
    reference = uq.losses.constant_normal_nll(y)
    assert f"{reference:.4g}" in str(diagnosis)


# 5. A variational autoencoder that runs to minus 10^18


class WrongSampling(layers.Layer):
    """The KL maximised, the log-variance as a standard deviation."""

    def __init__(self, sign=-1.0, **kwargs):
        super().__init__(**kwargs)
        self.sign = sign
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        loc, log_variance = ops.split(inputs, 2, axis=-1)
        kl = -0.5 * ops.sum(1 + log_variance - loc**2 - ops.exp(log_variance), axis=-1)
        self.add_loss(self.sign * ops.mean(kl))
        noise = keras.random.normal(ops.shape(loc), seed=self.seed_generator)
        return loc + self.draw_scale(log_variance) * noise

    def draw_scale(self, log_variance):
        return log_variance

    def get_config(self):
        return {**super().get_config(), "sign": self.sign}


class RightSampling(WrongSampling):
    def draw_scale(self, log_variance):
        return ops.exp(0.5 * log_variance)


def wrong_autoencoder(sampling):
    return keras.Sequential(
        [
            *[layers.Dense(units, "relu") for units in (64, 32)],
            layers.Dense(8),
            sampling,
            *[layers.Dense(units, "relu") for units in (32, 64)],
            layers.Dense(24, "sigmoid"),
        ]
    )


def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 24)).astype("float32")


def test_the_four_faults_of_the_autoencoder():
    x = features()
    found = codes(wrong_autoencoder(WrongSampling()), x, x, "binary_crossentropy")
    assert {
        "kl-negative",
        "log-variance-as-scale",
        "targets-not-probabilities",
        "kl-against-mean",
    } == found


@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy"])
def test_only_the_average_is_left(loss):
    x = 1 / (1 + np.exp(-features()))
    found = codes(wrong_autoencoder(RightSampling(sign=1.0)), x, x, loss)
    assert found == {"kl-against-mean"}
