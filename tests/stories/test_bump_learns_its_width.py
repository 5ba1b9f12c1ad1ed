"""A bump layer whose width is learned: what failed, and what works."""

import keras
import numpy as np
import pytest
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


def fit(layer, profile, sigma, half_width, epochs):
    x = np.random.default_rng(0).uniform(-half_width, half_width, (100_000, 1))
    x = x.astype("float32")
    bump = {"smooth": uq.numerics.bump, "threshold": uq.numerics.bump_threshold}[
        profile
    ]
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    y = to_numpy(bump(x, sigma))
    history = model.fit(x, y, batch_size=256, epochs=epochs, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    return float(to_numpy(layer.sigma))


def narrow(profile):
    return uq.BumpLayer(profile, sigma_initializer=keras.initializers.Constant(0.1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma", "half_width", "epochs"),
    [
        (0.1, 1, 3),
        (0.5, 1, 3),
        (1.0, 1, 5),
        (2.0, 1, 10),
        (5.0, 1, 40),
        (2.0, 4, 10),
        (5.0, 10, 10),
    ],
)
def test_the_smooth_profile_finds_the_width(sigma, half_width, epochs):
    learned = fit(narrow("smooth"), "smooth", sigma, half_width, epochs)
    assert abs(learned / sigma - 1) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    # What the published answer reaches on inputs in (-1, 1).
    ("sigma", "epochs", "published"),
    [(0.1, 3, 0.0895), (0.5, 3, 0.5), (1.0, 5, 1.0), (2.0, 10, 2.0), (5.0, 10, 4.715)],
)
def test_the_threshold_profile_is_as_good_as_the_published_one(
    sigma, epochs, published
):
    learned = fit(narrow("threshold"), "threshold", sigma, 1, epochs)
    assert abs(learned - sigma) <= abs(published - sigma) + 1e-4 * sigma


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
