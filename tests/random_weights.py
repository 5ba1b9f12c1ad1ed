"""Helpers for tests of layers with random weights."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import ops

ESTIMATORS = ("local_reparameterization", "flipout", "reparameterization")
POSTERIORS = ("mean_field", "low_rank", "full_covariance", "kronecker")

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a twin in TensorFlow"
)


def randomize(layer, seed=0, scale=1.0):
    """Generic values in the posterior: nothing is at its initial value."""
    rng = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        values = rng.normal(size=variable.shape) * scale
        if "raw_scale" in variable.name:
            values -= 1.0
        variable.assign(values)
    return layer


def covariance(layer):
    """Covariance of the flat vector, from perturbations of unit noise."""
    posterior = layer.posterior
    columns = [
        to_numpy(posterior.perturbation(ops.convert_to_tensor(row, "float32")))
        for row in np.eye(posterior.noise_size)
    ]
    return np.transpose(columns) @ np.array(columns)


def output_draws(layer, x, count):
    """Outputs in training, many draws: `(count, ...)`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        call = tf.function(lambda: layer(x, training=True))
    elif keras.backend.backend() == "jax":
        import jax

        trainable = [v.value for v in layer.trainable_variables]
        step = jax.jit(
            lambda state: layer.stateless_call(trainable, state, x, training=True)
        )
        states = [[v.value for v in layer.non_trainable_variables]]

        def call():
            outputs, states[0] = step(states[0])
            return outputs
    else:

        def call():
            return layer(x, training=True)

    return np.array([to_numpy(call()) for _ in range(count)])
