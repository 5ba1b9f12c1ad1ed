"""Time of one compiled training step of variational dense layers.

A step is forward, backward and Adam, compiled with `tf.function`, with and
without XLA. Each variant runs in turn within a round, all in one process; the
ratio to the plain Keras `Dense` is taken within the round, and the median of
the rounds is printed, so that a machine with other work on it changes the
milliseconds more than the ratios.

    python benchmarks/variational_speed.py [--rounds 30]

Needs TensorFlow and, for the twins of `tfp.layers`, `tf_keras`.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from timing import interleaved

import keras_uq_layers as uq

SIZES = {"3 x 16, batch 32": (3, 16, 32, 50), "2 x 512, batch 512": (2, 512, 512, 3)}
ROWS = 5000


def keras_model(make, depth, units):
    return keras.Sequential([keras.Input((units,)), *(make() for _ in range(depth))])


def tfp_model(make, depth, units):
    return tf_keras.Sequential(
        [tf_keras.Input((units,)), *(make() for _ in range(depth))]
    )


def tfp_layer(name, units):
    def divergence(q, p, _):
        return tfp.distributions.kl_divergence(q, p) / ROWS

    return getattr(tfp.layers, name)(
        units,
        activation="relu",
        kernel_divergence_fn=divergence,
        bias_divergence_fn=divergence,
        # The bias is random, as in the layers of this package.
        bias_posterior_fn=tfp.layers.default_mean_field_normal_fn(),
        bias_prior_fn=tfp.layers.default_multivariate_normal_fn,
    )


def tfp_dense_variational(units):
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
        activation="relu",
    )


def variants(depth, units):
    """Dict from name to model, the plain one first."""

    def ours(estimator):
        return lambda: uq.DenseVariational(
            units, "relu", kl_weight=1 / ROWS, estimator=estimator
        )

    return {
        "Dense": keras_model(lambda: keras.layers.Dense(units, "relu"), depth, units),
        "reparameterization": keras_model(ours("reparameterization"), depth, units),
        "  tfp": tfp_model(
            lambda: tfp_layer("DenseReparameterization", units), depth, units
        ),
        "  tfp DenseVariational": tfp_model(
            lambda: tfp_dense_variational(units), depth, units
        ),
        "local_reparameterization": keras_model(
            ours("local_reparameterization"), depth, units
        ),
        "  tfp ": tfp_model(
            lambda: tfp_layer("DenseLocalReparameterization", units), depth, units
        ),
        "flipout": keras_model(ours("flipout"), depth, units),
        "  tfp  ": tfp_model(lambda: tfp_layer("DenseFlipout", units), depth, units),
    }


def compiled_step(model, x, y, jit_compile):
    """A function that runs one training step and returns the loss."""
    ours = isinstance(model, keras.Model)
    optimizer = (keras if ours else tf_keras).optimizers.Adam(1e-3)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
            loss = tf.add_n([loss, *model.losses])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return lambda: step().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    print(
        f"TensorFlow {tf.__version__}, keras {keras.__version__}, CPU or GPU:", end=""
    )
    print([device.device_type for device in tf.config.list_physical_devices()][-1])
    for size, (depth, units, batch, repeats) in SIZES.items():
        x = tf.random.stateless_normal((batch, units), (0, 0))
        y = tf.random.stateless_normal((batch, units), (0, 1))
        for jit_compile in (False, True):
            models = variants(depth, units)
            steps = {
                name: compiled_step(model, x, y, jit_compile)
                for name, model in models.items()
            }
            times = interleaved(steps, options.rounds, repeats)
            print(f"\n{size}, {'XLA' if jit_compile else 'no XLA'}")
            for name, seconds in times.items():
                ratio = np.median(seconds / times["Dense"])
                best = 1e3 * seconds.min()
                print(
                    f"  {name:26s} {ratio:5.2f} x Dense   best {best:7.3f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
