"""A normal likelihood with two learned scalars: what failed, and what works."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from backend import steps_per_execution
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq


def tfp_gradients(x, shape=()):
    def loss(loc, scale):
        log_prob = tfp.distributions.Normal(loc, scale).log_prob(x)
        return -ops.mean(ops.sum(log_prob, axis=-1))

    loc, scale = np.zeros(shape, "float32"), np.ones(shape, "float32")
    return value_and_gradients(loss, loc, scale)[1]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the twin needs TensorFlow"
)
@pytest.mark.parametrize("per_feature", [False, True])
def test_both_gradients_equal_those_of_tfp(per_feature):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(4, 100)).astype("float32")
    layer = uq.NormalLikelihood(add_nll=True, per_feature=per_feature)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        layer(x)
        loss = layer.losses[0]
    ours = tape.gradient(loss, [layer.loc.value, layer.scale.value])
    for a, b in zip(ours, tfp_gradients(x, (100,) if per_feature else ()), strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-5)
        assert (a.numpy() != 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_maximum_likelihood_from_far_away_without_targets(seed):
    keras.utils.set_random_seed(seed)
    x = np.random.default_rng(seed).normal(3.0, 0.5, (10_000, 1)).astype("float32")
    layer = uq.NormalLikelihood(
        add_nll=True, loc_initializer=keras.initializers.Constant(-20.0)
    )
    model = keras.Sequential([layer])
    schedule = keras.optimizers.schedules.CosineDecay(0.3, 3000)
    model.compile(
        keras.optimizers.Adam(schedule), steps_per_execution=steps_per_execution(100)
    )
    model.fit(x, batch_size=100, epochs=30, verbose=0)
    assert abs(float(to_numpy(layer.loc)) / x.mean() - 1) < 0.01
    assert abs(float(to_numpy(layer.scale)) / x.std() - 1) < 0.01


@pytest.mark.slow
def test_per_feature():
    rng = np.random.default_rng(0)
    x = rng.normal([1.0, -2.0], [0.5, 2.0], (5000, 2)).astype("float32")
    layer = uq.NormalLikelihood(add_nll=True, per_feature=True)
    model = keras.Sequential([layer])
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 1000)
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(x, batch_size=100, epochs=20, verbose=0)
    np.testing.assert_allclose(to_numpy(layer.loc), x.mean(0), rtol=0.02, atol=0.01)
    np.testing.assert_allclose(to_numpy(layer.scale), x.std(0), rtol=0.01)


class Indexed(keras.layers.Layer):
    """The question's layer: the variables are read once, in `build`."""

    def build(self, input_shape):
        self.loc = self.add_weight(shape=(1,), initializer="zeros")
        self.scale = self.add_weight(shape=(1,), initializer="ones")
        self.law = tfp.distributions.Normal(
            ops.convert_to_numpy(self.loc)[0], ops.convert_to_numpy(self.scale)[0]
        )

    def call(self, x):
        return self.law.log_prob(x)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the original needs TensorFlow"
)
def test_the_original_has_no_gradient_for_any_variable():
    import tensorflow as tf

    layer, x = (
        Indexed(),
        np.random.default_rng(0).normal(size=(4, 100)).astype("float32"),
    )
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(layer(x))
    assert tape.gradient(loss, [v.value for v in layer.trainable_variables]) == [
        None,
        None,
    ]


def test_a_clipped_density_does_not_pull_the_mean():
    def clipped(loc):
        prob = ops.exp(uq.numerics.normal_log_prob(np.float32(10.0), loc, 1.0))
        return -ops.log(ops.clip(prob, 1e-3, 1 - 1e-3))

    loc = np.float32(0.0)
    assert value_and_gradients(clipped, loc)[1][0] == 0
    ours = value_and_gradients(
        lambda m: -uq.numerics.normal_log_prob(np.float32(10.0), m, 1.0), loc
    )[1][0]
    assert ours == -10
