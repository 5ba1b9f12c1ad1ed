"""One device and two replicas of a MirroredStrategy; prints JSON.

Run by `test_distributed.py`: logical devices exist per process.
"""

import json

import keras
import numpy as np
import tensorflow as tf

import keras_uq_layers as uq

REPLICAS = 2
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * REPLICAS,
)
ONE = tf.distribute.get_strategy()
TWO = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])

rng = np.random.default_rng(0)
X = rng.normal(size=(32, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def params_of_a_latent_code():
    return uq.DistributionHead(2)


# Layers whose noise belongs to the weights, and layers whose noise belongs to
# the examples.
SHARED = {
    "reparameterization": lambda: [
        uq.DenseVariational(
            4,
            kl_weight=0.1,
            estimator="reparameterization",
            prior="scale_mixture",
            seed=1,
        )
    ],
    "wrapper": lambda: [uq.Variational(keras.layers.Dense(4), kl_weight=0.1, seed=1)],
    "none": lambda: [keras.layers.Dense(4)],
}
PER_EXAMPLE = {
    "flipout": lambda: [
        uq.DenseVariational(4, kl_weight=0.1, estimator="flipout", seed=1)
    ],
    "dropout": lambda: [uq.MCDropout(0.5, seed=1)],
    "latent code": lambda: [params_of_a_latent_code(), uq.NormalSampling(seed=1)],
}


class StepLosses(keras.callbacks.Callback):
    """The loss of each step, from the running means that Keras reports."""

    def on_train_begin(self, logs=None):
        self.sums = [0.0]

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(logs["loss"] * (batch + 1))

    @property
    def losses(self):
        return np.diff(self.sums).tolist()


def fit(strategy, layers, learning_rate, steps, x=X, y=Y):
    """The same batch, step after step."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        head = uq.ConstantVarianceHead(1, scale=2.0)
        model = keras.Sequential([keras.Input((4,)), *layers(), head])
        model.compile(
            keras.optimizers.SGD(learning_rate), loss=uq.losses.NegativeLogLikelihood()
        )
    recorder = StepLosses()
    model.fit(
        np.tile(x, (steps, 1)),
        np.tile(y, (steps, 1)),
        batch_size=len(x),
        shuffle=False,
        verbose=0,
        callbacks=[recorder],
    )
    return model, recorder.losses


def same_noise(layers):
    runs = []
    for strategy in (ONE, TWO):
        model, losses = fit(strategy, layers, learning_rate=0.01, steps=3)
        evaluated = model.evaluate(X, Y, batch_size=len(X), verbose=0)
        kl = float(sum(model.losses)) if model.losses else 0.0
        predicted = uq.predict(model, X, samples=3, seed=0, verbose=0).mean
        runs.append(
            {
                "losses": losses,
                "evaluated": evaluated,
                "kl": kl,
                "weights": np.concatenate(
                    [w.ravel() for w in model.get_weights()]
                ).tolist(),
                "predicted": predicted.ravel().tolist(),
            }
        )
    return runs


def own_noise(layers, steps=200):
    """Losses at weights that do not change: on a batch that is twice the same.

    The same noise on both halves would double the variance of the mean.
    """
    x, y = (np.concatenate([a[: len(a) // 2]] * 2) for a in (X, Y))
    return [fit(s, layers, 0.0, steps, x, y)[1] for s in (ONE, TWO)]


def masks():
    with TWO.scope():
        model = keras.Sequential([keras.Input((50,)), uq.MCDropout(0.5, seed=1)])
        model.compile()
    return model.predict(np.ones((4, 50)), batch_size=4, verbose=0).tolist()


print(
    json.dumps(
        {
            "same_noise": {name: same_noise(make) for name, make in SHARED.items()},
            "own_noise": {name: own_noise(make) for name, make in PER_EXAMPLE.items()},
            "masks": masks(),
        }
    )
)
