"""`tfp.layers` on tf_keras. They draw in predictions as they do in training."""

import functools

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from peers_benchmark.cases import FLIPOUT
from peers_benchmark.cases import LOCAL
from peers_benchmark.cases import PLAIN
from peers_benchmark.cases import ROWS
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import STRIDE
from peers_benchmark.cases import WINDOW
from peers_benchmark.cases import flattened

Adam = tf_keras.optimizers.Adam
# There is no convolution with local reparameterization.
LAYERS = {
    SHARED: ("Convolution2DReparameterization", "DenseReparameterization"),
    LOCAL: (None, "DenseLocalReparameterization"),
    FLIPOUT: ("Convolution2DFlipout", "DenseFlipout"),
}


def models(case):
    """Names of layers, an estimator and a model."""
    plain = model(case, tf_keras.layers.Conv2D, tf_keras.layers.Dense)
    yield "tf_keras.layers", PLAIN, plain
    for estimator, names in LAYERS.items():
        if names[0] or not case.filters:
            layers = [
                name and functools.partial(getattr(tfp.layers, name), **random())
                for name in names
            ]
            yield "tfp.layers", estimator, model(case, *layers)
    if not case.filters:
        yield "tfp DenseVariational", SHARED, model(case, None, dense_variational)


def model(case, convolution, dense):
    layers = case.layers(
        lambda _, filters: convolution(
            filters, WINDOW, strides=STRIDE, activation="relu"
        ),
        lambda _, units: dense(units, activation="relu"),
    )
    layers = flattened(case, layers, tf_keras.layers.Flatten)
    return tf_keras.Sequential([tf_keras.Input(case.shape()), *layers])


def random():
    """What makes kernel and bias random, and weighs the KL as we do."""

    def divergence(q, p, _):
        return tfp.distributions.kl_divergence(q, p) / ROWS

    return {
        "kernel_divergence_fn": divergence,
        "bias_divergence_fn": divergence,
        "bias_posterior_fn": tfp.layers.default_mean_field_normal_fn(),
        "bias_prior_fn": tfp.layers.default_multivariate_normal_fn,
    }


def dense_variational(units, activation):
    """The layer of the tutorials, mean field."""

    def posterior(kernel_size, bias_size=0, dtype=None):
        n = kernel_size + bias_size
        return tf_keras.Sequential(
            [
                tfp.layers.VariableLayer(2 * n, dtype=dtype),
                tfp.layers.DistributionLambda(
                    lambda t: tfp.distributions.Independent(
                        tfp.distributions.Normal(
                            t[..., :n], 1e-5 + tf.nn.softplus(t[..., n:] - 3.0)
                        ),
                        1,
                    )
                ),
            ]
        )

    def prior(kernel_size, bias_size=0, dtype=None):
        n = kernel_size + bias_size
        return lambda _: tfp.distributions.Independent(
            tfp.distributions.Normal(tf.zeros(n, dtype), tf.ones(n, dtype)), 1
        )

    return tfp.layers.DenseVariational(
        units,
        posterior,
        prior,
        kl_weight=1 / ROWS,
        kl_use_exact=True,
        activation=activation,
    )
