"""What the layers cost: steps, predictions, memory, import, and how they grow.

    python benchmarks/speed.py [--rounds 15] [--only steps bump ...]

Every ratio is taken within a round in which both sides run in turn; printed
are its median and, in brackets, its quartiles. The sections:

- steps:   one compiled training step (forward, backward, Adam) of a model
           against the same model with the plain Keras layer;
- predict: 100 passes of `uq.predict` against a bare compiled loop;
- bump:    `BumpLayer`, forward and backward on ten million values, against
           GELU, and against copying the same memory;
- import:  milliseconds that `import keras_uq_layers` adds to `import keras`;
- memory:  peak resident memory of `predict` beyond what the process holds after
           a smaller one, against the formula in the docstring of `predict`;
- growth:  exponent of the cost in width, batch and samples: the slope of
           log(time) over log(size) between the two largest sizes.

Needs TensorFlow and Linux (for the peak memory).
"""

import argparse
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import predict_speed
import tensorflow as tf
from timing import interleaved
from timing import ratio
from timing import versions

import keras_uq_layers as uq

BATCH, WIDTH, ROWS = 512, 256, 5000


def compiled_step(model, batch, width=WIDTH):
    """One training step of a compiled model as a function."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(batch, width)), tf.float32)
    y = tf.constant(rng.normal(size=(batch, 1)), tf.float32)
    model.make_train_function()
    iterator = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    return lambda: model.train_function(iterator)["loss"].numpy()


def compiled(layers, loss, width=WIDTH, jit_compile=False):
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile("adam", loss=loss, jit_compile=jit_compile)
    return model


def dense(count=2, width=WIDTH):
    return [keras.layers.Dense(width, "relu") for _ in range(count)]


def variational(estimator, width=WIDTH):
    return [
        uq.DenseVariational(width, "relu", kl_weight=1 / ROWS, estimator=estimator)
        for _ in range(2)
    ]


def steps(rounds):
    nll = uq.losses.NegativeLogLikelihood
    drop, head = keras.layers.Dropout, uq.DistributionHead
    plain = [*dense(), head(1)]

    def with_dropout(dropout):
        hidden = dense()
        return [hidden[0], dropout(0.1), hidden[1], dropout(0.1), head(1)]

    def ensemble():
        model = uq.Ensemble(
            lambda: keras.Sequential([keras.Input((WIDTH,)), *dense(), head(1)]), 5
        )
        model.compile("adam", loss=nll())
        return model

    pairs = {
        "`DistributionHead` / `Dense(1)`, mean squared error": (
            compiled(plain, nll()),
            compiled([*dense(), keras.layers.Dense(1)], "mse"),
        ),
        **{
            f"`DistributionHead`, default / classic map{label}": tuple(
                compiled([*dense(), last], nll(), jit_compile=jit_compile)
                for last in (head(1), head(1, parameterization="scale"))
            )
            for label, jit_compile in (("", False), (", XLA", True))
        },
        "`StudentT` head / `Dense(1)`, mean squared error": (
            compiled([*dense(), head(1, "student_t")], nll("student_t")),
            compiled([*dense(), keras.layers.Dense(1)], "mse"),
        ),
        "`MCDropout` / `Dropout`": (
            compiled(with_dropout(uq.MCDropout), nll()),
            compiled(with_dropout(drop), nll()),
        ),
        **{
            f"`DenseVariational`, {estimator} / `Dense`": (
                compiled([*variational(estimator), head(1)], nll()),
                compiled([*dense(), head(1)], nll()),
            )
            for estimator in uq.DenseVariational.estimators
        },
        "`Ensemble` of 5 / 5 models of their own": (ensemble(), None),
    }
    for name, (ours, theirs) in pairs.items():
        functions = {"ours": compiled_step(ours, BATCH)}
        if theirs is None:
            single = compiled_step(compiled([*dense(), head(1)], nll()), BATCH)
            functions["theirs"] = lambda single=single: [single() for _ in range(5)]
        else:
            functions["theirs"] = compiled_step(theirs, BATCH)
        times = interleaved(functions, rounds, repeats=5)
        yield name, ratio(times["ours"], times["theirs"])


def predict(rounds):
    x = np.random.default_rng(0).normal(size=(ROWS, 1)).astype("float32")
    for width in (16, 256):
        model = keras.Sequential([keras.Input((1,)), *predict_speed.two_layers(width)])
        functions = predict_speed.sides(model, x)
        del functions["list"]
        times = interleaved(functions, rounds)
        yield f"width {width}: predict / loop", ratio(times["predict"], times["loop"])


def bump(rounds):
    x = tf.random.stateless_normal((10_000_000,), (0, 0))

    def forward_and_backward(function):
        @tf.function
        def run():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)[0]

        return lambda: run().numpy()

    copy = np.empty(x.shape, "float32")
    source = x.numpy()
    for profile in ("smooth", "threshold"):
        layer = uq.BumpLayer(profile=profile)
        layer.build(x.shape)
        times = interleaved(
            {
                "bump": forward_and_backward(layer),
                "gelu": forward_and_backward(keras.activations.gelu),
                "copy": lambda: np.copyto(copy, source),
            },
            rounds,
        )
        for other in ("gelu", "copy"):
            yield f"{profile}: bump / {other}", ratio(times["bump"], times[other])


def in_a_process(code):
    """What a fresh interpreter prints, as a float."""
    # With compiled bytecode, as after any installation.
    environment = {k: v for k, v in os.environ.items() if "BYTECODE" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return float(done.stdout)


def import_time(rounds):
    code = (
        "import time, keras; start = time.perf_counter(); import keras_uq_layers; "
        "print(1000 * (time.perf_counter() - start))"
    )
    times = [in_a_process(code) for _ in range(rounds)]
    low, middle, high = np.percentile(times, [25, 50, 75])
    yield (
        "`import keras_uq_layers` after `import keras`, ms",
        f"{middle:.0f} ({low:.0f} to {high:.0f})",
    )


MEMORY = """
import re, keras, numpy as np
from pathlib import Path
import keras_uq_layers as uq
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((1,)),
    uq.DenseVariational(16, "tanh", kl_weight=1e-3),
    uq.DistributionHead(1),
])
def mebibytes(key):
    status = Path("/proc/self/status").read_text()
    return int(re.search(key + r":\\s+(\\d+)", status)[1]) / 1024
rows, passes, keep = {rows}, {passes}, {keep}
x = np.zeros((rows, 1), "float32")
# What the libraries take once is not counted.
uq.predict(model, x[:5000], samples=passes, keep_samples=keep, verbose=0)
before = mebibytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
uq.predict(model, x, samples=passes, keep_samples=keep, verbose=0)
print(mebibytes("VmHWM") - before)
"""


def memory(rounds):
    rows, passes = 200_000, 200
    formula = 4 * rows * passes * 2 / 2**20
    for keep in (True, False):
        peak = in_a_process(MEMORY.format(rows=rows, passes=passes, keep=keep))
        yield (
            f"`predict`, {rows} rows, {passes} passes, keep_samples={keep}, MiB",
            f"{peak:.0f}; the params alone: {formula if keep else 0:.0f}",
        )


def slope(sizes, functions, rounds):
    times = interleaved(dict(zip(sizes, functions, strict=True)), rounds)
    best = [np.median(times[size]) for size in sizes]
    steepness = np.log(best[-1] / best[-2]) / np.log(sizes[-1] / sizes[-2])
    return f"{steepness:.2f}", [f"{1e3 * value:.2f}" for value in best]


def growth(rounds):
    nll = uq.losses.NegativeLogLikelihood

    def step(width, batch):
        layers = [*variational(None, width), uq.DistributionHead(1)]
        return compiled_step(compiled(layers, nll(), width), batch, width)

    widths, batches, passes = (16, 128, 1024, 2048), (32, 512, 8192), (1, 10, 100, 1000)
    model = keras.Sequential([keras.Input((1,)), *predict_speed.two_layers(16)])
    x = np.zeros((ROWS, 1), "float32")
    cases = {
        "width, step of `DenseVariational`, batch 32, theory 2": (
            widths,
            [step(width, 32) for width in widths],
        ),
        "batch, step of `DenseVariational`, width 256, theory 1": (
            batches,
            [step(WIDTH, batch) for batch in batches],
        ),
        "samples, `predict`, theory 1": (
            passes,
            [
                lambda s=s: uq.predict(
                    model, x, samples=s, keep_samples=False, verbose=0
                )
                for s in passes
            ],
        ),
    }
    for name, (sizes, functions) in cases.items():
        exponent, ms = slope(sizes, functions, max(3, rounds // 3))
        yield f"{name}: {sizes}", f"{exponent}; ms {', '.join(ms)}"


SECTIONS = {
    "steps": steps,
    "predict": predict,
    "bump": bump,
    "import": import_time,
    "memory": memory,
    "growth": growth,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    print(f"{versions()}, {os.cpu_count()} cores, {options.rounds} rounds\n")
    print("| section | what | median (quartiles) |\n| --- | --- | --- |")
    for section in options.only:
        for name, value in SECTIONS[section](options.rounds):
            print(f"| {section} | {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
