"""Mean and variance of a regression: what failed, and what works."""

import keras
import numpy as np
import pytest
from backend import steps_per_execution
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq

NOISE = 0.2


def curve(x):
    return np.sin(x / 15 - 4) + 2 + np.sin(x / 10 - 5)


def data(seed, n=10_000):
    rng = np.random.default_rng(seed)
    x = rng.uniform(50, 150, (n, 1))
    return x.astype("float32"), (curve(x) + rng.normal(0, NOISE, (n, 1))).astype(
        "float32"
    )


def fit(loss, seed, head):
    keras.utils.set_random_seed(seed)
    x, y = data(seed)
    standardise = keras.layers.Normalization()
    standardise.adapt(x)
    model = keras.Sequential(
        [
            standardise,
            keras.layers.Dense(32, "tanh"),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(128, "tanh"),
            head,
        ]
    )
    # As in the question, but on fewer rows, in fewer epochs, with a decaying rate.
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, 30 * 100)
    model.compile(
        keras.optimizers.Adam(schedule),
        loss,
        steps_per_execution=steps_per_execution(100),
    )
    history = model.fit(x, y, batch_size=100, epochs=30, verbose=0)
    grid = np.linspace(50, 150, 1000, dtype="float32")[:, None]
    return model.predict(grid, verbose=0), curve(grid), history.history["loss"], y


def loss_of_the_question(y, params, absolute):
    """The question's loss: an absolute value where the square belongs."""
    mean, log_variance = ops.split(params, 2, axis=-1)
    residual = absolute(y - mean)
    return ops.mean(0.5 * ops.exp(-log_variance) * residual + 0.5 * log_variance)


def root_of_the_square(residual):
    return ops.sqrt(ops.square(residual))


@pytest.mark.parametrize("residual", [0.0, 0.5])
def test_the_original_has_no_gradient_where_a_residual_is_zero(residual):
    y, params = np.float32([[1.0 + residual]]), np.float32([[1.0, 0.0]])
    by_root, by_abs = (
        value_and_gradients(lambda p, f=f: loss_of_the_question(y, p, f), params)
        for f in (root_of_the_square, ops.abs)
    )
    assert by_root[0] == by_abs[0]
    assert np.isfinite(by_abs[1]).all()
    # The derivative of the root is infinite there, that of the square is 0.
    assert np.isnan(by_root[1]).any() == (residual == 0)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_variance_is_that_of_the_noise(beta):
    loss = uq.losses.NegativeLogLikelihood(beta=beta)
    params, truth, losses, y = fit(loss, 0, uq.DistributionHead(1))
    loc, scale = np.split(params, 2, axis=-1)
    assert abs((scale**2).mean() / NOISE**2 - 1) < 0.15
    assert np.sqrt(((loc - truth) ** 2).mean()) < 0.06
    if beta == 0:
        # Negative, as it must be for a scale of 0.2, and below the reference.
        assert losses[-1] < 0 < uq.losses.constant_normal_nll(y)
        entropy = np.log(NOISE) + 0.5 * np.log(2 * np.pi * np.e)
        assert abs(losses[-1] - entropy) < 0.05


def test_the_original_is_smallest_at_the_mean_absolute_error():
    """The notebook on this question trains it and finds the same number."""
    residual = np.random.default_rng(0).normal(0, NOISE, (1000, 1)).astype("float32")

    def slope(variance):
        def loss(log_variance):
            params = ops.concatenate([np.zeros_like(residual), log_variance], axis=-1)
            return loss_of_the_question(residual, params, ops.abs)

        log_variance = np.full_like(residual, np.log(variance))
        return value_and_gradients(loss, log_variance)[1][0].sum()

    mean_absolute_error = np.abs(residual).mean()
    assert mean_absolute_error > 3 * NOISE**2
    assert abs(slope(mean_absolute_error)) < 1e-5
    assert slope(residual.var()) < -1


def test_a_density_may_exceed_one():
    loss = uq.losses.NegativeLogLikelihood("normal")
    value = float(to_numpy(loss(np.zeros((1, 1)), np.array([[0.0, 0.01]]))))
    assert value < 0
    assert "A negative loss is right" in uq.losses.NegativeLogLikelihood.__doc__
