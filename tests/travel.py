"""Models whose file and predictions travel between backends.

Run by `test_backends.py`: `python travel.py write=FOLDER read=FOLDER`. What is read
may still be written by another process.
"""

import sys
import time
from pathlib import Path

import keras
import numpy as np
from every_family import EVERY_FAMILY

import keras_uq_layers as uq


def heads():
    """One model with a head for every family."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    outputs = [uq.DistributionHead(2, family)(hidden) for family in EVERY_FAMILY]
    outputs.append(uq.ConstantVarianceHead(2, trainable_scale=True)(hidden))
    return keras.Model(inputs, keras.layers.Concatenate()(outputs))


def adapted():
    head = uq.DistributionHead(1)
    head.adapt(np.array([10.0, 30.0, 80.0]))
    return keras.Sequential([keras.Input((3,)), head])


def random():
    return keras.Sequential(
        [
            keras.Input((6, 5, 1)),
            uq.Conv2DVariational(3, 3, kl_weight=0.01),
            uq.SpatialMCDropout2D(0.2),
            uq.Variational(keras.layers.LayerNormalization(), kl_weight=0.01),
            keras.layers.Flatten(),
            uq.DenseVariational(4, kl_weight=0.01, posterior="low_rank"),
            uq.MCDropout(0.2),
            uq.ConcreteDropout(keras.layers.Dense(2), kl_weight=0.01),
            uq.DistributionHead(1),
        ]
    )


def bayesian():
    """Converted, with centres of its priors that are weights, and LoRA."""
    inputs = keras.Input((3,))
    adapted = keras.layers.Dense(2, name="adapted")
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    model = keras.Model(inputs, adapted(keras.layers.LayerNormalization()(hidden)))
    adapted.enable_lora(1)
    adapted.lora_kernel_b.assign([[1.0, -1.0]])
    return uq.to_bayesian(model, kl_weight=0.01)


def ensemble():
    return uq.Ensemble(lambda: keras.Sequential([uq.DistributionHead(1)]), members=3)


MODELS = {
    "bump": (
        lambda: keras.Sequential(
            [uq.BumpLayer(per_feature=True), uq.NormalLikelihood(output="log_prob")]
        ),
        (5, 3),
    ),
    "heads": (heads, (5, 3)),
    "adapted": (adapted, (5, 3)),
    "temperature": (
        lambda: keras.Sequential([keras.layers.Dense(3), uq.TemperatureScaling(2.0)]),
        (5, 3),
    ),
    "random": (random, (2, 6, 5, 1)),
    "bayesian": (bayesian, (5, 3)),
    "ensemble": (ensemble, (5, 3)),
}


def output(name, model, x):
    if name in ("random", "bayesian"):
        # The draws of a random model are not the same on all backends.
        model = uq.to_deterministic(model)
    return keras.ops.convert_to_numpy(model(x, training=False))


def draws():
    """What a seed stands for: the same on one backend, other on another."""
    x = keras.ops.ones((1, 200))
    return keras.ops.convert_to_numpy(uq.MCDropout(0.5, seed=1)(x))


def write(folder):
    folder.mkdir(parents=True)
    np.save(folder / "draws.npy", draws())
    np.testing.assert_array_equal(np.load(folder / "draws.npy"), draws())
    for name, (make, shape) in MODELS.items():
        x = np.random.default_rng(0).normal(0.0, 0.3, shape).astype("float32")
        model = make()
        model(x)
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", x=x, y=output(name, model, x))
    (folder / "done").touch()


def read(folder, seconds=300):
    deadline = time.monotonic() + seconds
    while not (folder / "done").exists():
        assert time.monotonic() < deadline, f"nothing was written in {folder}"
        time.sleep(0.2)
    assert (np.load(folder / "draws.npy") != draws()).any()
    for name in MODELS:
        data = np.load(folder / f"{name}.npz")
        model = keras.saving.load_model(folder / f"{name}.keras", safe_mode=True)
        got = output(name, model, data["x"])
        assert got.std() > 0
        np.testing.assert_allclose(
            got, data["y"], rtol=1e-4, atol=1e-5, err_msg=f"{folder.name}: {name}"
        )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        verb, _, folder = argument.partition("=")
        {"write": write, "read": read}[verb](Path(folder))
