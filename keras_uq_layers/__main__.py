"""The quick start: `python -m keras_uq_layers`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL_FILE = "quickstart.keras"
FIGURE_FILE = "quickstart.png"
LEVEL = 0.9


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m keras_uq_layers",
        description=(
            "Trains a Sequential model with a DistributionHead on scikit-learn's "
            "diabetes data, compares it with a constant variance and a constant "
            "normal, saves it, loads it in a fresh process and draws its "
            "predictions."
        ),
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("."),
        help="folder for quickstart.keras and quickstart.png (default: here)",
    )
    parser.add_argument(
        "--epochs", type=_positive, default=30, help="epochs per fit (default: 30)"
    )
    parser.add_argument(
        "--splits",
        type=_positive,
        default=5,
        help="random splits of the comparison (default: 5)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of splits and weights (default: 0)"
    )
    return parser.parse_args(arguments)


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def check_folder(folder):
    """Ends with one line where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        sys.exit(f"error: cannot write to the output folder {folder}: {reason}")


def load_data():
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        sys.exit("error: the quick start needs scikit-learn: pip install '.[demo]'")
    data = load_diabetes()
    return data.data.astype("float32"), data.target.astype("float32")[:, None]


def fit(head_class, x, y, epochs, verbose, **options):
    """A small network, regularised for 350 rows; the head adapts to y."""
    import keras

    import keras_uq_layers as uq

    standardise = keras.layers.Normalization()
    standardise.adapt(x)
    decay = keras.regularizers.L2(3e-2)
    head = head_class(1, kernel_regularizer=decay, **options)
    head.adapt(y)
    model = keras.Sequential(
        [
            standardise,
            keras.layers.Dense(32, "relu", kernel_regularizer=decay),
            keras.layers.Dropout(0.3),
            head,
        ]
    )
    steps = -(-len(x) // 32)
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, epochs * steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        loss=uq.losses.NegativeLogLikelihood(),
        metrics=[uq.metrics.NegativeLogLikelihood(), uq.metrics.RootMeanSquaredError()],
    )
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=verbose)
    return model


def scores(params, y):
    """Negative log likelihood in nats, RMSE, and coverage of the interval."""
    import numpy as np

    import keras_uq_layers as uq

    family = uq.families.Normal()
    lower = np.asarray(family.quantile(0.5 - LEVEL / 2, params))
    upper = np.asarray(family.quantile(0.5 + LEVEL / 2, params))
    return (
        float(-np.mean(family.log_prob(y, params))),
        float(np.sqrt(np.mean((y - params[:, :1]) ** 2))),
        float(np.mean((lower <= y) & (y <= upper))),
    )


def compare(x, y, epochs, splits, seed):
    """Scores on held-out parts; returns a table and the last fitted model."""
    import keras
    import numpy as np

    import keras_uq_layers as uq

    table = {"DistributionHead": [], "ConstantVarianceHead": [], "constant normal": []}
    for split in range(splits):
        order = np.random.default_rng(seed + split).permutation(len(x))
        train, test = np.split(order, [round(0.8 * len(x))])
        heads = {
            "ConstantVarianceHead": (
                uq.ConstantVarianceHead,
                {"trainable_scale": True},
            ),
            "DistributionHead": (uq.DistributionHead, {}),
        }
        constant = np.array([[y[train].mean(), y[train].std()]])
        table["constant normal"].append(
            scores(np.repeat(constant, len(test), axis=0), y[test])
        )
        for name, (head_class, options) in heads.items():
            keras.utils.set_random_seed(seed + split)
            first = split == 0 and name == "DistributionHead"
            print(f"Split {split + 1} of {splits}: fitting the {name}", flush=True)
            verbose = 1 if first else 0
            model = fit(head_class, x[train], y[train], epochs, verbose, **options)
            table[name].append(scores(model.predict(x[test], verbose=0), y[test]))
    return table, model, test


def show(table):
    import numpy as np

    print()
    print("Held-out diabetes progression, mean and standard error over the splits")
    columns = "NLL (nats)", "RMSE", f"coverage of {LEVEL:.0%} interval"
    print(f"{'':22}" + "".join(f"{column:>26}" for column in columns))
    for name, rows in table.items():
        rows = np.array(rows)
        error = rows.std(axis=0, ddof=1 if len(rows) > 1 else 0) / np.sqrt(len(rows))
        cells = (
            f"{mean:.3f} ± {e:.3f}"
            for mean, e in zip(rows.mean(axis=0), error, strict=True)
        )
        print(f"{name:22}" + "".join(f"{cell:>26}" for cell in cells))
    print()


def check_reload(model, x, folder):
    """Saves the model; a fresh process must predict the same."""
    import numpy as np

    path = folder / MODEL_FILE
    model.save(path)
    script = (
        "import sys, keras, numpy as np\n"
        "import keras_uq_layers\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "x = np.load(sys.argv[2])\n"
        "np.save(sys.argv[3], model.predict(x, verbose=0))\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "x.npy"), Path(scratch, "params.npy")
        np.save(inputs, x)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(inputs), str(outputs)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"error: the saved model does not load again\n{done.stderr}")
        again = np.load(outputs)
    expected = model.predict(x, verbose=0)
    if not np.array_equal(again, expected):
        gap = float(np.abs(again - expected).max())
        sys.exit(f"error: the loaded model predicts otherwise, by up to {gap}")
    print(f"{path}: loaded in a fresh process, predictions are equal")


def draw(params, y, folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    import keras_uq_layers as uq

    family = uq.families.Normal()
    loc = params[:, 0]
    lower, upper = (
        np.asarray(family.quantile(p, params))[:, 0]
        for p in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    )
    order = np.argsort(loc)
    rank = np.arange(len(y))
    inside = (lower <= y[:, 0]) & (y[:, 0] <= upper)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.fill_between(
        rank,
        lower[order],
        upper[order],
        color="#0072B2",
        alpha=0.2,
        linewidth=0,
        label=f"{LEVEL:.0%} interval",
    )
    axes.plot(rank, loc[order], color="#0072B2", label="predicted mean")
    for mask, marker, label in (
        (inside[order], "o", "truth inside"),
        (~inside[order], "x", "truth outside"),
    ):
        axes.plot(
            rank[mask],
            y[order, 0][mask],
            marker,
            color="black" if marker == "o" else "#D55E00",
            markersize=4,
            label=label,
        )
    axes.set_xlabel("held-out patients, in the order of the predicted mean")
    axes.set_ylabel("disease progression after one year (score)")
    axes.set_title(
        f"DistributionHead on the diabetes data: {inside.mean():.0%} of "
        f"{len(y)} patients inside"
    )
    axes.legend(loc="upper left", frameon=False)
    path = folder / FIGURE_FILE
    figure.savefig(path, dpi=120)
    print(f"{path}: predictions with their intervals against the truth")


def main(arguments=None):
    options = parse(arguments)
    check_folder(options.output)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    x, y = load_data()
    table, model, test = compare(x, y, options.epochs, options.splits, options.seed)
    show(table)
    check_reload(model, x[test], options.output)
    draw(model.predict(x[test], verbose=0), y[test], options.output)


if __name__ == "__main__":
    main()
