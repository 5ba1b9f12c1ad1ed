"""`DenseVariational`: exact cases, estimators, arguments."""

import re

import keras
import numpy as np
import pytest
import scipy.stats
from backend import steps_per_execution
from backend import to_numpy
from keras import ops
from random_weights import ESTIMATORS
from random_weights import covariance
from random_weights import output_draws
from random_weights import randomize
from random_weights import tensorflow_only

import keras_uq_layers as uq
from keras_uq_layers import _random
from keras_uq_layers.numerics import normal_log_prob

RNG = np.random.default_rng(0)


def linear_regression(noise=0.5, rows=100, features=5):
    """Data with correlated features, exact posterior and log evidence."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, features)) @ (
        np.eye(features) + 0.2 * rng.normal(size=(features, features))
    )
    y = x @ rng.normal(size=features) + noise * rng.normal(size=rows)
    precision = np.eye(features) + x.T @ x / noise**2
    cov = np.linalg.inv(precision)
    mean = cov @ x.T @ y / noise**2
    evidence = scipy.stats.multivariate_normal(
        np.zeros(rows), noise**2 * np.eye(rows) + x @ x.T
    ).logpdf(y)
    return x.astype("float32"), y[:, None].astype("float32"), mean, cov, evidence


def elbo(x, y, noise, loc, cov, kl):
    """Evidence lower bound of a normal posterior, in closed form."""
    residual = y[:, 0] - x @ loc
    spread = np.einsum("bi,ij,bj->b", x, cov, x)
    log_prob = scipy.stats.norm(0, noise).logpdf(residual) - spread / (2 * noise**2)
    return log_prob.sum() - kl


class Average(keras.callbacks.Callback):
    """The weights become their mean over the ends of the later epochs.

    Without the noise of the last gradients, and, unlike the moving average of
    an optimizer, without a memory of the first weights.
    """

    def __init__(self, start):
        super().__init__()
        self.start, self.seen = start, []

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self.start:
            self.seen.append(self.model.get_weights())

    def on_train_end(self, logs=None):
        columns = zip(*self.seen, strict=True)
        self.model.set_weights([np.mean(column, axis=0) for column in columns])


@pytest.mark.slow
@pytest.mark.parametrize(
    # All of the data and a part: what a batch counts does not depend on the posterior.
    ("posterior", "batch_size"),
    [("full_covariance", 25), ("mean_field", 100)],
)
def test_bayesian_linear_regression(posterior, batch_size):
    """Posterior and evidence are known: loss, KL and its weight, all at once."""
    noise = 0.5
    x, y, mean, cov, evidence = linear_regression(noise)
    layer = uq.DenseVariational(
        1, kl_weight=1 / len(x), use_bias=False, posterior=posterior, seed=0
    )
    model = keras.Sequential([layer])

    def loss(y_true, y_pred):
        return -ops.sum(normal_log_prob(y_true, y_pred, noise), axis=-1)

    epochs, copies = 60, 3 * batch_size
    many_x, many_y = np.tile(x, (copies, 1)), np.tile(y, (copies, 1))
    steps = len(many_x) // batch_size
    rate = keras.optimizers.schedules.CosineDecay(0.03, epochs * steps // 3, 0.1)
    model.compile(
        keras.optimizers.Adam(rate),
        loss,
        jit_compile=False,
        steps_per_execution=steps_per_execution(steps),
    )
    model.fit(
        many_x,
        many_y,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[Average(start=epochs // 2)],
    )
    loc, fitted = layer.posterior.mean["kernel"][:, 0], covariance(layer)
    scale = np.sqrt(np.diag(cov))
    assert (np.abs(loc - mean) < 0.1 * scale).all()
    bound = elbo(x, y, noise, loc, fitted, float(layer.kl()))
    if posterior == "full_covariance":
        assert evidence - 0.05 < bound < evidence + 1e-3
        np.testing.assert_allclose(
            fitted / np.outer(scale, scale),
            cov / np.outer(scale, scale),
            atol=0.06,
        )
    else:
        # The optimum of mean field: the precisions of the posterior.
        best = 1.0 / np.diag(np.linalg.inv(cov))
        np.testing.assert_allclose(np.diag(fitted), best, rtol=0.06)
        kl = 0.5 * np.sum(best + mean**2 - 1 - np.log(best))
        optimum = elbo(x, y, noise, mean, np.diag(best), kl)
        assert bound == pytest.approx(optimum, abs=0.05)
        assert optimum < evidence - 0.1
    # What `evaluate` reports is this bound, per row, up to the draws of which
    # every batch has one.
    draws = [len(x) * float(ops.mean(loss(y, model(x)))) for _ in range(100)]
    model.compile(loss=loss, jit_compile=False)
    reported = -len(x) * model.evaluate(many_x, many_y, batch_size=100, verbose=0)
    assert reported == pytest.approx(bound, abs=4 * np.std(draws) / np.sqrt(copies))


def gradient_draws(layer, loss, x, count):
    """Gradients of `loss(layer(x))` in training, many draws: `(count, n)`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                value = loss(layer(x, training=True))
            return tape.gradient(value, layer.trainable_variables)

        draws = [gradients() for _ in range(count)]
    elif keras.backend.backend() == "jax":
        import jax

        def value(trainable, state):
            outputs, state = layer.stateless_call(trainable, state, x, training=True)
            return loss(outputs), state

        step = jax.jit(jax.grad(value, has_aux=True))
        trainable = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]
        draws = []
        for _ in range(count):
            gradient, state = step(trainable, state)
            draws.append(gradient)
    else:
        pytest.skip("written for TensorFlow and JAX")
    return np.array([np.concatenate([to_numpy(g).ravel() for g in d]) for d in draws])


def linear_layer(estimator, seed=11):
    layer = uq.DenseVariational(
        2, kl_weight=0.0, estimator=estimator, deterministic_bias=False, seed=seed
    )
    layer.build((None, 5))
    return randomize(layer, scale=0.5)


def test_estimators_agree_and_reduce_the_variance():
    """Equal in expectation to the analytic gradient; measured variances."""
    count, rows = 1500, 256
    x = RNG.normal(size=(rows, 5)).astype("float32")
    y = RNG.normal(size=(rows, 2)).astype("float32")

    def loss(outputs):
        return ops.mean(ops.sum(ops.square(outputs - y), axis=-1))

    # Analytic: E (x w + b - y)^2 = (x m + c - y)^2 + x^2 s^2 + t^2.
    layer = linear_layer("reparameterization")
    mean, scale = layer.posterior.mean, layer.posterior.scale
    raw = to_numpy(layer.posterior._raw_scale)
    residual = x @ mean["kernel"] + mean["bias"] - y
    slope = 1.0 / (1.0 + np.exp(-raw))  # of softplus
    exact = np.concatenate(
        [
            (2 / rows * x.T @ residual).ravel(),
            2 * residual.mean(axis=0),
            slope
            * np.concatenate(
                [
                    (2 * (x**2).mean(axis=0)[:, None] * scale["kernel"]).ravel(),
                    2 * scale["bias"],
                ]
            ),
        ]
    )
    variances = {}
    for estimator in ESTIMATORS:
        draws = gradient_draws(linear_layer(estimator), loss, x, count)
        error = draws.std(axis=0) / np.sqrt(count)
        assert (np.abs(draws.mean(axis=0) - exact) < 4.5 * error).all(), estimator
        variances[estimator] = draws.var(axis=0)
    ratios = {
        name: [
            (variances["reparameterization"][part].sum() / variance[part].sum())
            for part in (slice(0, 12), slice(12, None))  # means, scales
        ]
        for name, variance in variances.items()
    }
    print("variance of the shared draw over that of the estimator:", ratios)
    assert ratios["local_reparameterization"][0] > 20
    assert ratios["local_reparameterization"][1] > 20
    assert ratios["flipout"][0] > 20
    # The sizes of the draws are shared, only their signs are not.
    assert ratios["flipout"][1] > 1.2


def test_flipout_and_local_noise_have_the_moments_of_the_weights():
    """Per example: mean and variance of the output under the posterior."""
    x = RNG.normal(size=(4, 5)).astype("float32")
    layers = {estimator: linear_layer(estimator) for estimator in ESTIMATORS}
    mean, scale = layers["flipout"].posterior.mean, layers["flipout"].posterior.scale
    loc = x @ mean["kernel"] + mean["bias"]
    variance = x**2 @ scale["kernel"] ** 2 + scale["bias"] ** 2
    for layer in layers.values():
        draws = output_draws(layer, x, 2000)
        error = np.sqrt(variance / len(draws))
        assert (np.abs(draws.mean(axis=0) - loc) < 4.5 * error).all()
        ratio = draws.var(axis=0) / variance
        assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / len(draws))


def test_flipout_keeps_one_set_of_weights_over_the_positions_of_an_example():
    layer = uq.DenseVariational(2, kl_weight=0.0, estimator="flipout", seed=0)
    x = np.repeat(RNG.normal(size=(3, 1, 4)), 6, axis=1).astype("float32")
    y = to_numpy(layer(x, training=True))
    np.testing.assert_allclose(y, np.repeat(y[:, :1], 6, axis=1), rtol=1e-5)
    assert np.abs(y[0] - y[1]).max() > 1e-3


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_inference_draws_one_function(estimator):
    """Equal rows have equal outputs, in any order and batch size."""
    layer = uq.DenseVariational(3, kl_weight=0.0, estimator=estimator)
    model = keras.Sequential([layer])
    x = np.repeat(RNG.normal(size=(1, 4)), 5, axis=0).astype("float32")
    y = to_numpy(model(x))
    np.testing.assert_allclose(y, np.repeat(y[:1], 5, axis=0), rtol=1e-6)
    assert np.abs(to_numpy(model(x)) - y).max() > 1e-4


def test_half_precision_does_not_overflow_in_the_variance():
    layer = uq.DenseVariational(2, kl_weight=0.0, dtype="mixed_float16")
    outputs = layer(np.full((2, 3), 1000.0, "float16"), training=True)
    assert np.isfinite(to_numpy(outputs)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`kl_weight` must be given: 1 / (number of scored training positions)"),
        ({"kl_weight": -1.0}, "`kl_weight` must be a non-negative finite number."),
        (
            {"kl_weight": 1.0, "posterior": "low_rank", "estimator": "flipout"},
            "`estimator` must be one of 'reparameterization' for DenseVariational "
            "with `posterior='low_rank'`",
        ),
        (
            {"kl_weight": 1.0, "estimator": "magic"},
            "one of 'local_reparameterization', 'flipout', 'reparameterization'",
        ),
        (
            {"kl_weight": 1.0, "posterior": "delta"},
            "`posterior` must be one of 'mean_field', 'low_rank', 'full_covariance'",
        ),
        (
            {"kl_weight": 1.0, "prior": 3},
            "`prior` must be one of 'normal', 'scale_mixture' or a `priors.Prior`",
        ),
    ],
)
def test_argument_errors(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        uq.DenseVariational(2, **options)


@tensorflow_only
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_outputs_of_tfp_layers_with_the_same_noise(estimator, monkeypatch):
    import tensorflow as tf
    import tensorflow_probability as tfp
    from tensorflow_probability.python.layers import dense_variational as module

    tfd = tfp.distributions
    x = RNG.normal(size=(7, 4)).astype("float32")
    layer = uq.DenseVariational(
        3, kl_weight=0.1, estimator=estimator, deterministic_bias=True
    )
    layer.build(x.shape)
    randomize(layer)
    mean, scale = layer.posterior.mean["kernel"], layer.posterior.scale["kernel"]
    local = estimator == "local_reparameterization"
    noise = RNG.normal(size=(7, 3) if local else (4, 3)).astype("float32")
    signs = {
        n: np.where(RNG.normal(size=(7, n)) < 0, -1, 1).astype("float32")
        for n in (4, 3)
    }
    monkeypatch.setattr(
        _random, "normal", lambda shape, dtype, seed: tf.reshape(noise, shape)
    )
    monkeypatch.setattr(layer, "_signs", lambda *_: (signs[4], signs[3]))
    monkeypatch.setattr(
        module.tfp_random,
        "rademacher",
        lambda shape, **kwargs: tf.constant(signs[int(shape[-1])]),
    )

    def posterior(*args):
        return tfd.Independent(tfd.Normal(mean, scale), 2)

    def draw(distribution):
        flat = getattr(distribution, "distribution", distribution)
        return flat.loc + flat.scale * noise

    name = {
        "local_reparameterization": "DenseLocalReparameterization",
        "flipout": "DenseFlipout",
        "reparameterization": "DenseReparameterization",
    }[estimator]
    twin = getattr(tfp.layers, name)(
        3,
        kernel_posterior_fn=posterior,
        kernel_posterior_tensor_fn=draw,
        bias_posterior_fn=lambda *_: tfd.Independent(
            tfd.Deterministic(to_numpy(layer.bias)), 1
        ),
        bias_posterior_tensor_fn=lambda d: d.distribution.loc,
    )
    np.testing.assert_allclose(
        to_numpy(layer(x, training=True)), twin(x).numpy(), rtol=1e-5, atol=1e-5
    )
    assert float(layer.kl()) == pytest.approx(float(twin.losses[0]), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"deterministic_bias": True}], ids=str)
def test_kernel_and_bias_are_the_posterior_means(options):
    layer = uq.DenseVariational(2, kl_weight=0.1, **options)
    x = RNG.normal(size=(4, 3)).astype("float32")
    layer.build(x.shape)
    layer.kernel.assign(RNG.normal(size=(3, 2)))
    layer.bias.assign([1.0, -2.0])
    means = {"kernel": layer.kernel, "bias": layer.bias}
    for name, mean in layer.posterior.mean.items():
        np.testing.assert_array_equal(mean, to_numpy(means[name]))
    layer.posterior._raw_scale.assign(-50.0 * np.ones(layer.posterior.size))
    expected = x @ to_numpy(layer.kernel) + to_numpy(layer.bias)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-6)
    assert len(layer.posterior.mean) == (1 if options else 2)


def test_the_kl_draws_from_a_stream_of_its_own():
    layer = uq.DenseVariational(2, kl_weight=1.0, prior="scale_mixture", seed=3)
    other = uq.DenseVariational(2, kl_weight=1.0, prior="scale_mixture", seed=3)
    x = RNG.normal(size=(4, 3)).astype("float32")
    layer.build(x.shape)
    other.build(x.shape)
    other.set_weights(layer.get_weights())
    float(layer.kl())  # reading the losses does not move the weights' stream
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(other(x)), rtol=1e-6)
