"""A bump layer whose width is learned: what failed, and what works."""

import keras
import numpy as np
import pytest
from backend import steps_per_execution
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq


class NaiveWhere(keras.layers.Layer):
    """The question's formula: `where` around it, but not inside it."""

    def build(self, input_shape):
        self.sigma = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(0.1)
        )

    def call(self, x):
        value = ops.exp(-self.sigma / (self.sigma - ops.square(x)))
        return ops.where(ops.abs(x) < self.sigma, value, ops.zeros_like(value))

    def compute_output_shape(self, input_shape):
        return input_shape


# True width, half-width of the inputs, epochs that it takes.
SMOOTH = [
    (0.1, 1, 3),
    (0.5, 1, 3),
    (1.0, 1, 5),
    (2.0, 1, 10),
    (5.0, 1, 40),
    (2.0, 4, 10),
    (5.0, 10, 10),
]
# No width far below 1: there this profile ends in a jump, which no gradient sees.
THRESHOLD = [(0.5, 1, 3), (1.0, 1, 5), (2.0, 1, 10), (5.0, 1, 40)]


def published(x, sigma):
    """The published answer, for inputs in (-1, 1)."""
    inside = ops.abs(x) < sigma
    safe = ops.where(inside, x, 0.0)
    return ops.where(inside, ops.exp(-sigma / (sigma - ops.square(safe))), 0.0)


def ours(profile):
    start = keras.initializers.Constant(0.1)
    return uq.BumpLayer(profile, per_feature=True, sigma_initializer=start)


def learned_widths(layer, bump, rows):
    """The width that each row has learned after its own number of epochs.

    One model with a feature for each row: the loss is a sum over the features
    and Adam works on each width by itself, so that this is what as many models
    with one width learn.
    """
    sigmas, half_widths, epochs = map(np.array, zip(*rows, strict=True))
    rng = np.random.default_rng(0)
    x = half_widths * rng.uniform(-1, 1, (100_000, len(rows)))
    y = to_numpy(bump(x, sigmas))
    assert np.isfinite(y).all()
    model = keras.Sequential([layer])
    model.compile(
        keras.optimizers.Adam(1e-2),
        lambda y, y_pred: ops.sum(ops.square(y - y_pred), axis=-1),
        steps_per_execution=steps_per_execution(len(x) // 256 + 1),
    )
    widths = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: widths.append(to_numpy(layer.sigma))
    )
    history = model.fit(
        x, y, batch_size=256, epochs=max(epochs), callbacks=[record], verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    return sigmas, np.array([widths[e - 1][i] for i, e in enumerate(epochs)])


@pytest.mark.slow
def test_the_smooth_profile_finds_the_width():
    true, learned = learned_widths(ours("smooth"), uq.numerics.bump, SMOOTH)
    np.testing.assert_allclose(learned, true, rtol=0.005)


@pytest.mark.slow
def test_the_threshold_profile_finds_the_width():
    bump = uq.numerics.bump_threshold
    true, learned = learned_widths(ours("threshold"), bump, THRESHOLD)
    np.testing.assert_allclose(learned, true, rtol=0.005)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0, 5.0])
def test_the_threshold_profile_is_the_published_answer_where_that_is_right(sigma):
    x = np.random.default_rng(0).uniform(-1, 1, 1000)
    (value, gradients), (published_value, published_gradients) = (
        value_and_gradients(function, x, np.float64(sigma))
        for function in (uq.numerics.bump_threshold, published)
    )
    np.testing.assert_allclose(value, published_value, rtol=1e-9)
    for ours, theirs in zip(gradients, published_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_original_turns_nan_with_the_first_input_near_its_singularity():
    layer = NaiveWhere()
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = np.random.default_rng(0).uniform(-1, 1, (10_000, 1)).astype("float32")
    model.train_on_batch(x, to_numpy(uq.numerics.bump(x, 0.5)))
    assert np.isnan(to_numpy(layer.sigma))


def test_a_sigma_in_the_condition_only_has_no_gradient():
    def original(x, sigma):
        bump = ops.exp(-1.0 / (1.0 - ops.square(ops.where(ops.abs(x) < sigma, x, 0.0))))
        return ops.where(ops.abs(x) < sigma, bump, 0.0)

    x = np.array([0.1, 0.2], "float32")
    _, (_, gradient) = value_and_gradients(original, x, np.float32(0.5))
    assert gradient == 0
    _, (_, ours) = value_and_gradients(uq.numerics.bump, x, np.float32(0.5))
    assert ours > 0
