"""Does every layer keep its contract on this device, and what does it cost?

For each public layer, on the accelerator that the backend finds, or on the CPU:
finite value and gradient; the compiled pass against the eager one, as the
largest difference relative to 1 + |value| (`stream` where XLA draws other noise
than the eager pass, so that only finiteness is checked); finite passes in each
precision; operations that would run in Python; and the time of a training step
as a ratio to a plain Keras layer of the same width. Both take turns in each
round; the ratio is the median of the rounds, with the smallest and the largest.

    PYTHONPATH=. KERAS_BACKEND=jax python benchmarks/device_check.py [--rounds 9]

On JAX, `JAX_ENABLE_X64=1` adds the column float64.
"""

import argparse
import datetime
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import devices
import keras
import numpy as np

import keras_uq_layers as uq

POLICIES = ("mixed_float16", "mixed_bfloat16", "float64")
ROWS, STEPS, WIDTH = 256, 10, 128
FLAT, SEQUENCE, IMAGE, VOLUME = (WIDTH,), (16, 32), (16, 16, 16), (8, 8, 8, 8)
L = keras.layers


def conv(ours, plain):
    return (
        lambda: ours(16, 3, padding="same", kl_weight=1e-4),
        lambda: plain(16, 3, padding="same"),
    )


# The shape of an input, the layer, and the plain one that it is compared with.
TWINS = {
    "BumpLayer": (FLAT, uq.BumpLayer, lambda: L.Activation("tanh")),
    "ConcreteDropout": (
        FLAT,
        lambda: uq.ConcreteDropout(L.Dense(WIDTH), kl_weight=1e-4),
        lambda: keras.Sequential([L.Dropout(0.1), L.Dense(WIDTH)]),
    ),
    "ConstantVarianceHead": (
        FLAT,
        lambda: uq.ConstantVarianceHead(WIDTH // 2),
        lambda: L.Dense(WIDTH),
    ),
    "Conv1DVariational": (SEQUENCE, *conv(uq.Conv1DVariational, L.Conv1D)),
    "Conv2DVariational": (IMAGE, *conv(uq.Conv2DVariational, L.Conv2D)),
    "Conv3DVariational": (VOLUME, *conv(uq.Conv3DVariational, L.Conv3D)),
    "DenseVariational": (
        FLAT,
        lambda: uq.DenseVariational(WIDTH, kl_weight=1e-4),
        lambda: L.Dense(WIDTH),
    ),
    "DistributionHead": (
        FLAT,
        lambda: uq.DistributionHead(WIDTH // 2),
        lambda: L.Dense(WIDTH),
    ),
    "MCDropout": (FLAT, lambda: uq.MCDropout(0.1), lambda: L.Dropout(0.1)),
    "NormalLikelihood": (FLAT, uq.NormalLikelihood, L.LayerNormalization),
    "NormalSampling": (FLAT, uq.NormalSampling, lambda: L.GaussianNoise(1.0)),
    "OrdinalHead": (
        FLAT,
        lambda: uq.OrdinalHead(WIDTH),
        lambda: L.Dense(WIDTH, "log_softmax"),
    ),
    "RandomFourierFeatures": (
        FLAT,
        lambda: uq.RandomFourierFeatures(WIDTH),
        lambda: L.Dense(WIDTH, "tanh"),
    ),
    "SpatialMCDropout1D": (
        SEQUENCE,
        lambda: uq.SpatialMCDropout1D(0.1),
        lambda: L.SpatialDropout1D(0.1),
    ),
    "SpatialMCDropout2D": (
        IMAGE,
        lambda: uq.SpatialMCDropout2D(0.1),
        lambda: L.SpatialDropout2D(0.1),
    ),
    "SpatialMCDropout3D": (
        VOLUME,
        lambda: uq.SpatialMCDropout3D(0.1),
        lambda: L.SpatialDropout3D(0.1),
    ),
    "BetaCalibration": ((1,), uq.BetaCalibration, lambda: L.Rescaling(0.5)),
    "TemperatureScaling": (FLAT, uq.TemperatureScaling, lambda: L.Rescaling(0.5)),
    "VectorScaling": (FLAT, uq.VectorScaling, lambda: L.Rescaling(0.5)),
    "Variational": (
        SEQUENCE,
        lambda: uq.Variational(L.LSTM(32), kl_weight=1e-4),
        lambda: L.LSTM(32),
    ),
}


def contract(case):
    """The columns of the table that are no time, for one case, and its verdict."""
    model, x = devices.built(case), devices.case_input(case)
    eager = devices.run(model, x, "eager")
    good = devices.is_finite(eager)
    columns = {"finite": "yes" if good else "NO"}
    for mode in devices.MODES[1:]:
        compiled = devices.run(model, x, mode)
        good &= devices.is_finite(compiled)
        other_noise = (devices.BACKEND, mode) == ("tensorflow", "xla")
        if other_noise and "seeds" in case.expect:
            columns[mode] = "stream"
        else:
            difference = devices.difference(eager, compiled)
            good &= difference < 1e-4
            columns[mode] = f"{difference:.0e}"
    for policy in POLICIES:
        wide = policy == "float64"
        if wide and devices.BACKEND == "jax" and not os.environ.get("JAX_ENABLE_X64"):
            columns[policy] = "-"
            continue
        narrow = devices.built(case, dtype=policy)
        finite = devices.is_finite(devices.run(narrow, x, "eager"))
        good &= finite
        columns[policy] = "yes" if finite else "NO"
    found = devices.host_calls(model, x)
    columns["in Python"] = ", ".join(found) or "none"
    return columns, good and not found


def trained(shape, layer):
    """A function that fits a model with this layer for some steps."""
    # Positive: what a scale, too, may be.
    x = np.random.default_rng(0).uniform(0.5, 1.5, (ROWS * STEPS, *shape))
    entry = keras.layers.Dense(shape[-1], "softplus")
    model = keras.Sequential([keras.Input(shape), entry, layer])
    y = np.zeros((len(x), *model.output_shape[1:]), "float32")
    per_execution = 1 if devices.BACKEND == "torch" else STEPS
    model.compile("sgd", "mse", steps_per_execution=per_execution)
    x = x.astype("float32")
    return lambda: model.fit(x, y, ROWS, shuffle=False, verbose=0)


def step_times(rounds):
    """Seconds of a step, `(rounds, 2)`, for each layer: ours and the plain one."""
    fits = {
        name: [trained(shape, make()) for make in makers]
        for name, (shape, *makers) in TWINS.items()
    }
    times = {name: np.zeros((rounds, 2)) for name in fits}
    for round_ in range(-2, rounds):  # the first two compile and warm up
        for name, pair in fits.items():
            for i in (0, 1) if round_ % 2 else (1, 0):
                start = time.perf_counter()
                pair[i]()
                if round_ >= 0:
                    times[name][round_, i] = (time.perf_counter() - start) / STEPS
    return times


def device_in_words():
    if devices.BACKEND == "tensorflow":
        import tensorflow as tf

        # Without it, an eager and a compiled product may differ by 1e-3.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        device = tf.config.list_physical_devices()[-1]
        details = tf.config.experimental.get_device_details(device)
        return details.get("device_name", device.device_type), tf.__version__
    if devices.BACKEND == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        return jax.devices()[0].device_kind, jax.__version__
    import torch

    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return kind, torch.__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device, version = device_in_words()
    print(
        f"{datetime.date.today()}, {device}, {os.cpu_count()} core(s), "
        f"{devices.BACKEND} {version}, keras {keras.__version__}, "
        f"keras_uq_layers {uq.__version__}"
    )
    times = step_times(options.rounds)
    rows, broken = [], []
    for name, case in sorted(devices.one_case_a_layer().items()):
        columns, good = contract(case)
        if not good:
            broken.append(name)
        ratio = times[name][:, 0] / times[name][:, 1]
        rows.append(
            {
                "layer": name,
                **columns,
                "step ms": f"{1e3 * np.median(times[name][:, 0]):.2f}",
                "ratio": f"{np.median(ratio):.2f}",
                "spread": f"{ratio.min():.2f} to {ratio.max():.2f}",
            }
        )
    print(
        f"Step: {ROWS} rows; median of {options.rounds} rounds, ratio to plain Keras."
    )
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())
    print("Broken: " + (", ".join(broken) or "none"))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
