"""The quick start: `python -m keras_uq_layers`."""

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import keras_uq_layers as uq
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor

MODEL_FILE, FIGURE_FILE = "quickstart.keras", "quickstart.png"
BANNER = f"""keras_uq_layers {uq.__version__}: how much does a household spend on food?
Engel's data: 235 Belgian households of 1857. The higher the income, the more
their spending differs. A constant scale cannot follow that, a normal head can.
"""
HEADS = {
    "constant scale": lambda: uq.ConstantVarianceHead(1, trainable_scale=True),
    "normal head": lambda: uq.DistributionHead(1, family="normal"),
}
COLUMNS = "NLL (nats)", "CRPS (francs)", "90 % interval holds"
Table = dict[str, list[list[float]]]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m keras_uq_layers",
        description="Predicts the food expenditure of households from their income, "
        "with a constant spread and with one that depends on the income. Compares "
        "both on held-out households, saves a model, loads it in a fresh process "
        "and draws the predictions.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("."), help="folder of the two files")
    add("--epochs", type=_positive, default=40, help="epochs per fit")
    add("--splits", type=_positive, default=6, help="random splits to compare on")
    add("--seed", type=int, default=0, help="seed of splits and weights")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def check_folder(folder: Path) -> None:
    """Ends the program with one line if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        sys.exit(f"error: cannot write to the output folder {folder}: {reason}")


def load_data() -> tuple[Array, Array]:
    """Income and food expenditure, `(235, 1)` each, in francs a year."""
    try:
        from statsmodels.datasets import engel
    except ImportError:
        sys.exit("error: the quick start needs statsmodels: pip install '.[demo]'")
    data = engel.load_pandas().data
    x, y = (data[name].to_numpy("float32")[:, None] for name in ("income", "foodexp"))
    return x, y


def fit(head: keras.layers.Layer, x: Array, y: Array, epochs: int) -> keras.Model:
    standardise = keras.layers.Normalization()
    standardise.adapt(x)
    head.adapt(y)
    hidden = keras.layers.Dense(32, "swish", kernel_regularizer=keras.regularizers.L2())
    model = keras.Sequential([standardise, hidden, head])
    steps = -(-len(x) // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-2, epochs * steps)
    model.compile(
        keras.optimizers.Adam(rate),
        loss=uq.losses.NegativeLogLikelihood(),
        steps_per_execution=steps,
        jit_compile=False,  # XLA would compile for longer than the training takes
    )
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def score(params: Tensor, y: Array) -> list[float]:
    metrics = (
        uq.metrics.NegativeLogLikelihood("normal"),
        uq.metrics.CRPS("normal"),
        uq.metrics.IntervalCoverage(0.9, "normal"),
    )
    return [float(metric(y, params)) for metric in metrics]


def compare(
    x: Array, y: Array, options: argparse.Namespace
) -> tuple[Table, dict[str, keras.Model]]:
    """Scores of held-out households for each split, and the last models."""
    table: Table = {"no inputs": [], **{name: [] for name in HEADS}}
    models = {}
    for split in range(options.splits):
        order = np.random.default_rng(options.seed + split).permutation(len(x))
        train, test = np.split(order, [round(0.8 * len(x))])
        moments = [y[train].mean(), y[train].std()]
        table["no inputs"].append(score(np.tile(moments, (len(test), 1)), y[test]))
        for name, head in HEADS.items():
            keras.utils.set_random_seed(options.seed + split)
            models[name] = fit(head(), x[train], y[train], options.epochs)
            table[name].append(score(models[name](x[test]), y[test]))
            progress = f"split {split + 1} of {options.splits}, {name}:"
            print(f"{progress:30} {table[name][-1][0]:.2f} nats", flush=True)
    return table, models


def show(table: Table) -> None:
    print("\nHeld-out households: mean ± standard error over the splits")
    print(f"{'':16}" + "".join(f"{column:>22}" for column in COLUMNS))
    for name, rows in table.items():
        errors = np.std(rows, axis=0, ddof=min(1, len(rows) - 1)) / len(rows) ** 0.5
        (nll, crps, share), (a, b, c) = np.mean(rows, axis=0), errors
        cells = (
            f"{nll:.2f} ± {a:.2f}",
            f"{crps:.1f} ± {b:.1f}",
            f"{share:.1%} ± {c:.1%}",
        )
        print(f"{name:16}" + "".join(f"{cell:>22}" for cell in cells))
    print("NLL, the negative log likelihood, and CRPS: smaller is better.\n")


def check_reload(model: keras.Model, x: Array, path: Path) -> None:
    """Saves the model. A fresh process must predict the same."""
    model.save(path)
    script = (
        "import sys, keras, numpy as np, keras_uq_layers\n"
        "model, x = keras.saving.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "np.save(sys.argv[2], model.predict(x, verbose=0))\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        exchange = Path(scratch, "x.npy")
        np.save(exchange, x)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(exchange)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"error: the saved model does not load again\n{done.stderr}")
        again = np.load(exchange)
    gap = np.abs(again - model.predict(x, verbose=0)).max()
    if gap > 0:
        sys.exit(f"error: the loaded model predicts otherwise, by up to {gap}")
    print(f"{path}: the normal head, loaded in a fresh process, predictions are equal")


def draw(
    models: dict[str, keras.Model], table: Table, x: Array, y: Array, path: Path
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    largest = 3000.0  # one household earns far more: it would squeeze the rest
    shown = x < largest
    grid = np.linspace(x.min(), largest, 300, dtype="float32")[:, None]
    with uq.plotting.style():
        figure, axes = plt.subplots(
            1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
        )
        for ax, (name, model) in zip(axes, models.items(), strict=True):
            prediction = uq.predict(model, grid, verbose=0)
            uq.plotting.prediction_band(prediction, grid, level=[0.5, 0.9], ax=ax)
            ax.plot(x[shown], y[shown], ".", color="black", ms=4, label="household")
            nll = np.mean(table[name], axis=0)[0]
            ax.set_title(f"{name}: {nll:.2f} nats on held-out households")
            ax.set(xlabel="income (Belgian francs a year)", xlim=(x.min(), largest))
            ax.set(ylim=(0, 1.1 * y.max()))
        axes[0].set(ylabel="food expenditure (Belgian francs a year)")
        note = f"not shown: {(~shown).sum()} of {len(x)} households, above 3000"
        axes[1].text(1, 0.02, note, transform=axes[1].transAxes, ha="right", size=9)
        axes[0].legend(loc="upper left")
        axes[1].get_legend().remove()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"{path}: the predictions of both, with their intervals")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    check_folder(options.output)
    # TensorFlow warns of each new model, because each traces new functions.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    x, y = load_data()
    print(BANNER)
    table, models = compare(x, y, options)
    show(table)
    check_reload(models["normal head"], x, options.output / MODEL_FILE)
    draw(models, table, x, y, options.output / FIGURE_FILE)


if __name__ == "__main__":
    main()
