"""Where the processor time of a training step goes, part by part.

    python benchmarks/step_account.py [--rounds 15]

Each part of the step runs alone, in a graph of its own, with tensors of the sizes
that it has in the step. Beside it stands a lower bound:

- matrix products: their operations at the rate of a product of 1024 x 1024 matrices;
- normal numbers and signs: the random bits that they need;
- softplus, KL, Adam: reading and writing each tensor once, at the rate of a copy;
- calls: an empty graph.

Each part is less the cost of a call of an empty graph.

The parts of a layer with random weights are those of `Dense` and those that come on
top. `rest` is the difference between the step and the sum of its parts.

Processor milliseconds on one thread, since parts that overlap do not add up; median of
rounds in which all parts run in turn. Needs TensorFlow.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import speed
import tensorflow as tf
from timing import interleaved
from timing import versions

import keras_uq_layers as uq
from keras_uq_layers import _random

# Layers, units, batch.
SIZES = ((3, 16, 32), (2, 512, 512))
PLAIN, EMPTY = "Dense", "empty graph"


def random_layers(estimator, count, width):
    return [
        uq.DenseVariational(width, "relu", kl_weight=1e-4, estimator=estimator)
        for _ in range(count)
    ]


def step(layers, width, batch):
    return speed.compiled_step(speed.compiled(layers, "mse", width), batch, width)


def whole_steps(count, width, batch):
    """The step of each model, with `Dense` first."""
    models = {PLAIN: speed.dense(count, width)}
    for estimator in uq.DenseVariational.estimators:
        models[estimator] = random_layers(estimator, count, width)
    return {
        name: step([*layers, keras.layers.Dense(1)], width, batch)
        for name, layers in models.items()
    }


def graph(function, *arguments):
    """A function of tensors as a graph that is called with these arguments."""
    compiled = tf.function(function)
    return lambda: compiled(*arguments)


def gradients(function):
    """A scalar function of tensors, and its gradients."""

    def run(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return value, tape.gradient(value, tensors)

    return run


def adam(weights):
    """A step of Adam on each of these variables."""
    variables = [keras.Variable(tf.zeros(shape)) for shape in weights]
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)
    slopes = [tf.ones(shape) for shape in weights]
    return graph(lambda: optimizer.apply(slopes, variables))


def parts(count, width, batch):
    """Functions for one layer, or for the step: name -> (function, its bound, times).

    `times` says how often the step runs it, for each kind of model.
    """
    layer = random_layers("flipout", 1, width)[0]
    layer.build((None, width))
    weights, posterior = layer.random_weights, layer.posterior
    x = tf.random.stateless_normal((batch, width), (0, 0))
    kernel = tf.random.stateless_normal((width, width), (0, 1))
    raw = tf.convert_to_tensor(layer.posterior._raw_scale.value)
    mean = tf.random.stateless_normal(raw.shape, (0, 2))
    noise, bits = posterior.noise_size, tf.random.stateless_uniform
    everything = (PLAIN, *uq.DenseVariational.estimators)
    # The first layer needs no slope of its input.
    backward = dict.fromkeys(everything, count - 1 / 3)

    def only(*names, times=count):
        return dict.fromkeys(names, times)

    def words(size):
        def run(seed):
            return bits((size,), seed, minval=None, maxval=None, dtype=tf.int32)

        return graph(run, tf.constant([0, 1]))

    def copies(size, passes):
        tensor = tf.ones((size,))
        return graph(lambda t: [t + (i + 1.0) for i in range(passes)], tensor)

    def products(a, b):
        # Forward, and the slopes of input and kernel.
        y = tf.matmul(a, b)
        return y, tf.matmul(y, b, transpose_b=True), tf.matmul(a, y, transpose_a=True)

    def kl(locs, scales):
        return 1e-4 * layer.prior.kl({"kernel": locs}, scales, None)

    def softplus(raws):
        return tf.reduce_sum(1e-8 + tf.nn.softplus(raws))

    scale = posterior.diagonal()
    signs = graph(lambda t: layer._signs(t, t), x)
    square = tf.ones((1024, 1024))
    share = batch * width * width / 1024**3 * 3
    reference = graph(lambda a: tf.matmul(a, a), square)
    shapes = [(width, width), (width,)] * count
    return {
        "matrix products": (graph(products, x, kernel), (reference, share), backward),
        "a second product": (
            graph(products, x, kernel),
            (reference, share),
            {name: backward[name] for name in ("flipout", "local_reparameterization")},
        ),
        "normal numbers, weights": (
            graph(lambda: _random.normal((noise,), "float32", weights.generators[0])),
            (words(noise), 1),
            only("flipout", "reparameterization"),
        ),
        "normal numbers, outputs": (
            graph(
                lambda: _random.normal((batch, width), "float32", weights.generators[0])
            ),
            (words(batch * width), 1),
            only("local_reparameterization"),
        ),
        "signs": (signs, (words(2 * batch * width // 32), 1), only("flipout")),
        "softplus and its slope": (
            graph(gradients(softplus), raw),
            (copies(noise, 2), 1),
            # For the draw, and for the KL.
            only(*uq.DenseVariational.estimators, times=2 * count),
        ),
        "KL and its slopes": (
            graph(gradients(kl), mean, scale),
            (copies(noise, 2), 1),
            only(*uq.DenseVariational.estimators),
        ),
        "Adam": (
            adam(shapes),
            (copies(noise * count, 3), 1),
            dict.fromkeys(everything, 1),
        ),
        "Adam, scales": (
            adam([(noise,)] * count),
            (copies(noise * count, 3), 1),
            only(*uq.DenseVariational.estimators, times=1),
        ),
        "call of `train_function`": (
            step([keras.layers.Dense(1)], 1, batch),
            (graph(lambda: tf.constant(1.0)), 1),
            dict.fromkeys(everything, 1),
        ),
    }


def account(count, width, batch, rounds):
    steps = whole_steps(count, width, batch)
    table = parts(count, width, batch)
    functions = {**steps, EMPTY: graph(lambda: tf.constant(0.0))}
    for name, (function, (bound, _), _) in table.items():
        functions[name], functions[f"bound of {name}"] = function, bound
    repeats = 50 if width < 100 else 4
    times = interleaved(functions, rounds, repeats, clock=time.process_time)
    ms = {name: 1000 * np.median(values) for name, values in times.items()}
    for name in set(ms) - {*steps, EMPTY}:
        ms[name] = max(0.0, ms[name] - ms[EMPTY])
    print(f"\n{count} layers of {width} units, batch {batch}; processor ms a step\n")
    print("| part | once | bound | " + " | ".join(steps) + " |")
    print("| --- |" + " --- |" * (2 + len(steps)))
    sums = dict.fromkeys(steps, 0.0)
    for name, (_, (_, share), uses) in table.items():
        cells = []
        for kind in steps:
            part = uses.get(kind, 0) * ms[name]
            sums[kind] += part
            cells.append(f"{part:.2f}" if part else "")
        bound = share * ms[f"bound of {name}"]
        print(f"| {name} | {ms[name]:.3f} | {bound:.3f} | " + " | ".join(cells) + " |")
    rows = {
        "sum": {kind: f"{sums[kind]:.2f}" for kind in steps},
        "rest": {kind: f"{ms[kind] - sums[kind]:.2f}" for kind in steps},
        "step": {kind: f"{ms[kind]:.2f}" for kind in steps},
        "times `Dense`": {
            kind: f"{np.median(times[kind] / times[PLAIN]):.2f}" for kind in steps
        },
    }
    for name, cells in rows.items():
        print(f"| {name} | | | " + " | ".join(cells.values()) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"{versions()}, median of {rounds} rounds")
    for size in SIZES:
        account(*size, rounds)


if __name__ == "__main__":
    main()
