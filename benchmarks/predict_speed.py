"""How fast `uq.predict` is, as ratios, all sides interleaved in one process.

    python benchmarks/predict_speed.py [--repeats 9]
    KERAS_BACKEND=jax python benchmarks/predict_speed.py  # or torch

Sides, for 5000 inputs and 100 passes:

- loop:     the model in a bare loop over the passes: `tf.map_fn` in a `tf.function`,
            `jax.lax.map` in a `jax.jit`; on PyTorch the list without gradients;
- predict:  `uq.predict`, params of all passes kept;
- list:     the list comprehension `[model(x) for _ in range(100)]`;
- limit:    the bare loop over the layers from the first random one on, of
            features that are there already: the most that a cut can gain.

The table shows the median of the times and of the ratios within a round.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops
from timing import interleaved

import keras_uq_layers as uq

ROWS, PASSES = 5000, 100


def two_layers(width):
    """Two variational layers and a head."""
    return [
        uq.DenseVariational(width, "tanh", kl_weight=1 / ROWS),
        uq.DenseVariational(width, "tanh", kl_weight=1 / ROWS),
        uq.DistributionHead(1),
    ]


def half_deterministic(width):
    """Two plain layers, then two variational ones."""
    plain = [keras.layers.Dense(width, "tanh") for _ in range(2)]
    return [*plain, *two_layers(width)]


def dropout_on_top(width):
    """Three plain layers, then Monte Carlo dropout and a head."""
    plain = [keras.layers.Dense(width, "tanh") for _ in range(3)]
    return [*plain, uq.MCDropout(0.1), uq.DistributionHead(1)]


def bare_loop(model, x):
    """The passes of a model, in the fastest loop that the backend has for one pass."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def loop(x):
            return tf.map_fn(
                lambda _: model(x), tf.range(PASSES), fn_output_signature=tf.float32
            )

        return lambda: loop(x).numpy()
    if keras.backend.backend() == "torch":
        import torch

        @torch.no_grad()
        def eager_loop():
            return torch.stack([model(x) for _ in range(PASSES)]).numpy()

        return eager_loop
    import jax

    seeds = [g.state for layer in model.layers for g in seed_generators(layer)]
    keys = np.random.default_rng(0).integers(2**31, size=(PASSES, len(seeds), 2))

    def one_pass(states):
        with keras.StatelessScope(list(zip(seeds, states, strict=True))):
            return model(x)

    compiled = jax.jit(lambda states: jax.lax.map(one_pass, states))
    return lambda: np.asarray(compiled(ops.convert_to_tensor(keys, "uint32")))


def seed_generators(layer):
    return getattr(layer, "seed_generators", None) or [
        value for name, value in vars(layer).items() if name == "seed_generator"
    ]


def sides(model, x):
    tensor = ops.convert_to_tensor(x)
    plain = (keras.layers.Dense, keras.layers.InputLayer)
    first = next(i for i, ly in enumerate(model.layers) if not isinstance(ly, plain))
    features = keras.Sequential(model.layers[:first])(tensor) if first else tensor
    random_part = keras.Sequential(model.layers[first:])
    return {
        "loop": bare_loop(model, tensor),
        "limit": bare_loop(random_part, features),
        "predict": lambda: uq.predict(model, x, samples=PASSES, seed=0, verbose=0),
        "list": lambda: [model(tensor) for _ in range(PASSES)],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    x = np.random.default_rng(0).normal(size=(ROWS, 1)).astype("float32")
    print(f"{ROWS} inputs, {PASSES} passes, median of {repeats} rounds\n")
    print(
        "| model | width | loop ms | predict ms | list ms | loop / predict | goal ",
        end="",
    )
    print("| loop / limit | list / predict |\n|" + " --- |" * 9)
    for make, goal in (
        (two_layers, 0.9),
        (half_deterministic, 2.0),
        (dropout_on_top, 2.0),
    ):
        for width in (16, 256):
            model = keras.Sequential([keras.Input((1,)), *make(width)])
            times = interleaved(sides(model, x), repeats)
            ms = {name: 1000 * np.median(t) for name, t in times.items()}
            against_loop = np.median(times["loop"] / times["predict"])
            against_list = np.median(times["list"] / times["predict"])
            limit = np.median(times["loop"] / times["limit"])
            print(
                f"| {make.__name__} | {width} | {ms['loop']:.1f} | "
                f"{ms['predict']:.1f} | {ms['list']:.0f} | {against_loop:.2f} | "
                f"{goal} | {limit:.2f} | {against_list:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
