"""One device and four of JAX, data and model parallel; prints JSON.

Run by `test_distributed.py`: the devices of the host are counted once.
"""

import json
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"

import keras
import numpy as np

import keras_uq_layers as uq

distribution = keras.distribution
DEVICES = distribution.list_devices("cpu")
rng = np.random.default_rng(0)
X = rng.normal(size=(64, 8)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def model_of_all_kinds_of_noise():
    return keras.Sequential(
        [
            keras.Input((8,)),
            uq.DenseVariational(8, kl_weight=0.01, prior="scale_mixture", seed=1),
            uq.DenseVariational(8, kl_weight=0.01, estimator="flipout", seed=2),
            uq.MCDropout(0.3, seed=3),
            uq.Variational(keras.layers.Dense(8), kl_weight=0.01, seed=4),
            uq.DistributionHead(4),
            uq.NormalSampling(seed=5),
            uq.ConstantVarianceHead(1, scale=5.0, name="last"),
        ]
    )


def ensemble():
    def member():
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(8, "tanh"),
                uq.DistributionHead(1),
            ]
        )

    return uq.Ensemble(member, members=4)


def data_parallel():
    mesh = distribution.DeviceMesh((4,), ["batch"], DEVICES)
    return distribution.DataParallel(device_mesh=mesh)


def model_parallel():
    mesh = distribution.DeviceMesh((2, 2), ["batch", "model"], DEVICES)
    layout = distribution.LayoutMap(mesh)
    layout[".*posterior_raw_scale"] = ("model",)
    # One output has no halves.
    layout["^(?!.*last).*dense.*kernel"] = (None, "model")
    return distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def train(build, strategy):
    distribution.set_distribution(strategy)
    keras.utils.set_random_seed(0)
    model = build()
    # Not Adam: it makes 1e-8 in a gradient near 0 a step of full length.
    model.compile(keras.optimizers.SGD(1e-3), loss=uq.losses.NegativeLogLikelihood())
    history = model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "weights": np.concatenate(
            [np.asarray(w).ravel() for w in model.get_weights()]
        ).tolist(),
        "devices": max(len(v.value.sharding.device_set) for v in model.variables),
        "split": [
            v.path.split("/")[-1]
            for v in model.variables
            if not v.value.sharding.is_fully_replicated
        ],
    }


result = {
    "one": train(model_of_all_kinds_of_noise, None),
    "data": train(model_of_all_kinds_of_noise, data_parallel()),
    "model": train(model_of_all_kinds_of_noise, model_parallel()),
    "ensemble_one": train(ensemble, None),
    "ensemble_model": train(ensemble, model_parallel()),
}
print(json.dumps(result))
