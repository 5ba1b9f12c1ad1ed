"""Classification and unknown classes: which uncertainty says "I do not know".

    python benchmarks/classification.py [--sets moons] [--methods Laplace]
        [--seeds 5] [--epochs 60]

Two sets that ship in packages or are drawn here, two that are asked for:

- digits: scikit-learn's 8 x 8 digits. Trained on the classes 0 to 7; 8 and 9
  are unknown, and never seen in training.
- moons:  scikit-learn's two moons; a distant cluster is unknown.
- fashion: 10,000 images of Fashion-MNIST, all classes; 2,000 digits of MNIST are
  unknown. Keras downloads both.
- a CSV file: a header, numbers, and the class in the last column. The last fifth
  of the classes in the order of their names, at least one, is unknown; the numbers
  are standardised by the training rows.

For each method: accuracy, negative log likelihood in nats (NLL) and expected
calibration error (ECE, 15 bins of equal width) on known test rows, both before
and after `TemperatureScaling`, fitted on validation rows; and the area under
the ROC curve (AUROC) with which the entropy, and the mutual information, tells
unknown rows from known ones: 0.5 is guessing, 1 is perfect. A deterministic
network has no mutual information (nan). `uq.novelty` scores the rows by the
deterministic network, too, in a column of its own. Mean and standard error over
seeds (split, initial weights). Everything is fixed in advance, the
same for all methods and sets; no row of a test part chooses anything.
"""

import argparse
import functools
import math
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn import datasets
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import keras_uq_layers as uq

WIDTH, RATE, MEMBERS, PASSES, FEATURES = 64, 0.2, 5, 50, 1024
METHODS = (
    "deterministic", "MC dropout", "concrete dropout", "variational", "ensemble",
    "Laplace", "random features, Laplace", "feature density", "energy",
)  # fmt: skip
# What is made of a network that is trained already.
MADE_OF = dict.fromkeys(("Laplace", "feature density", "energy"), "deterministic")
COLUMNS = (
    "accuracy", "NLL", "NLL, scaled", "ECE", "ECE, scaled",
    "AUROC entropy", "AUROC MI", "AUROC score",
)  # fmt: skip


def digits(seed):
    x, y = datasets.load_digits(return_X_y=True)
    x = x.astype("float32") / 16.0
    known = y < 8
    return split(x[known], y[known], x[~known], seed)


def moons(seed):
    x, y = datasets.make_moons(1000, noise=0.15, random_state=seed)
    rng = np.random.default_rng(seed)
    far = rng.normal((-2.5, -2.0), 0.3, (300, 2))
    return split(x.astype("float32"), y, far.astype("float32"), seed)


def fashion(seed):
    (x, y), _ = keras.datasets.fashion_mnist.load_data()
    _, (unknown, _) = keras.datasets.mnist.load_data()
    images = x[:10_000], unknown[:2_000]
    x, unknown = (part.reshape(-1, 784) / np.float32(255) for part in images)
    return split(x, y[:10_000], unknown, seed)


def from_file(path, seed):
    table = np.genfromtxt(path, delimiter=",", skip_header=1, dtype=str)
    x, names = table[:, :-1].astype("float32"), table[:, -1]
    classes, y = np.unique(names, return_inverse=True)
    known = y < len(classes) - max(1, len(classes) // 5)
    data = split(x[known], y[known], x[~known], seed)
    scaler = StandardScaler().fit(data["train"][0])
    for part in ("train", "val", "test"):
        x, y = data[part]
        data[part] = scaler.transform(x), y
    data["unknown"] = scaler.transform(data["unknown"])
    return data


def split(x, y, unknown, seed):
    """60 % of the known rows train, 20 % validate, 20 % test."""
    x, x_rest, y, y_rest = train_test_split(x, y, test_size=0.4, random_state=seed)
    halves = train_test_split(x_rest, y_rest, test_size=0.5, random_state=seed)
    x_val, x_test, y_val, y_test = halves
    return {
        "train": (x, y),
        "val": (x_val, y_val),
        "test": (x_test, y_test),
        "unknown": unknown,
    }


def network(classes, hidden):
    layers = [part for _ in range(2) for part in hidden()]
    return keras.Sequential([*layers, uq.DistributionHead(classes, "categorical")])


def plain():
    return [keras.layers.Dense(WIDTH, "relu")]


def distance_aware(classes):
    """A residual network that keeps distances, with random features on top."""

    def bounded(layer):
        return keras.layers.SpectralNormalization(layer)

    def build(size):
        inputs = keras.Input((size,))
        h = bounded(keras.layers.Dense(WIDTH))(inputs)
        for _ in range(2):
            change = bounded(keras.layers.Dense(WIDTH, "relu"))(h)
            h = keras.layers.Add()([h, change])
        features = uq.RandomFourierFeatures(FEATURES, name="random_features", seed=0)
        # Their scale of sqrt(2 / FEATURES) is too small for this learning rate.
        larger = keras.layers.Rescaling(math.sqrt(FEATURES / 2) / 4)
        head = uq.DistributionHead(classes, "categorical")
        return keras.Model(inputs, head(larger(features(h))))

    return build


def adapt(model, x):
    """Tells the random features the distances of the rows."""
    layer = model.get_layer("random_features")
    layer.adapt(keras.Model(model.inputs, layer.input).predict(x, verbose=0))


def with_dropout():
    return [keras.layers.Dense(WIDTH, "relu"), uq.MCDropout(RATE)]


def with_concrete_dropout(kl_weight):
    def hidden():
        dense = keras.layers.Dense(WIDTH, "relu")
        return [uq.ConcreteDropout(dense, kl_weight=kl_weight)]

    return hidden


def with_random_weights(kl_weight):
    return lambda: [uq.DenseVariational(WIDTH, "relu", kl_weight=kl_weight)]


def builders(classes, rows, size):
    """Name of each network to a function that returns it."""
    return {
        "deterministic": lambda: network(classes, plain),
        "MC dropout": lambda: network(classes, with_dropout),
        "concrete dropout": lambda: network(classes, with_concrete_dropout(1 / rows)),
        "variational": lambda: network(classes, with_random_weights(1 / rows)),
        "ensemble": lambda: uq.Ensemble(lambda: network(classes, plain), MEMBERS),
        "random features, Laplace": lambda: distance_aware(classes)(size),
    }


def train(model, data, epochs):
    rows = len(data["train"][0])
    steps = epochs * -(-rows // 32)
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        loss=uq.losses.NegativeLogLikelihood("categorical"),
    )
    model.fit(*data["train"], batch_size=32, epochs=epochs, verbose=0)


def scores(model, data, seed):
    def predict(x):
        return uq.predict(
            model, x, family="categorical", samples=PASSES, seed=seed, verbose=0
        )

    def log_mean(prediction):
        """Log probabilities of all classes under the mixture."""
        labels = range(prediction.mean.shape[-1])
        rows = len(prediction)
        log_p = [prediction.log_prob(np.full(rows, label)) for label in labels]
        return np.stack(log_p, axis=-1)

    x, y = data["test"]
    known, unknown = predict(x), predict(data["unknown"])
    scaling = uq.TemperatureScaling()
    held_out, labels = log_mean(predict(data["val"][0])), data["val"][1]
    if (held_out.argmax(-1) != labels).any():
        # Without a mistake there is no best temperature: it stays 1.
        scaling.fit(held_out, labels)
    before = log_mean(known)
    after = np.asarray(keras.ops.log_softmax(scaling(before)))

    def nll(log_p):
        return -np.mean(log_p[np.arange(len(y)), y])

    def ece(log_p):
        logits = uq.families.Categorical()
        metric = uq.metrics.ExpectedCalibrationError(logits, bins=15)
        metric.update_state(y, log_p)
        return float(metric.result())

    truth = np.repeat([0, 1], [len(known), len(unknown)])

    def auroc(name):
        both = [getattr(prediction, name) for prediction in (known, unknown)]
        if name == "mutual_information" and known.samples.shape[0] == 1:
            return np.nan
        return roc_auc_score(truth, np.concatenate(both).ravel())

    return (
        np.mean(known.mean.argmax(-1) == y),
        nll(before),
        nll(after),
        ece(before),
        ece(after),
        auroc("entropy"),
        auroc("mutual_information"),
    )


def novelty(name, model, data):
    """AUROC of a score of `uq.novelty`, nan for the other methods."""
    if name == "feature density":
        density = uq.novelty.FeatureDensity(model).fit(*data["train"], verbose=0)

        def score(x):
            return density.score(x, verbose=0)

    elif name == "energy":

        def score(x):
            return keras.ops.convert_to_numpy(
                uq.novelty.energy(model.predict(x, verbose=0))
            )

    else:
        return np.nan
    parts = [score(x) for x in (data["test"][0], data["unknown"])]
    truth = np.repeat([0, 1], [len(part) for part in parts])
    return roc_auc_score(truth, np.concatenate(parts))


def table(results):
    """Markdown rows, mean and standard error over the seeds."""
    yield "| method | " + " | ".join(COLUMNS) + " |"
    yield "| --- |" + " --- |" * len(COLUMNS)
    for name, rows in results.items():
        rows = np.array(rows)
        mean = rows.mean(axis=0)
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        cells = [
            f"{m:.3f} ± {e:.3f}" if np.isfinite(m) else "nan"
            for m, e in zip(mean, error, strict=True)
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def run(make_data, seeds, epochs, names):
    results = {name: [] for name in names}
    for seed in range(seeds):
        data = make_data(seed)
        rows, classes = len(data["train"][0]), data["train"][1].max() + 1
        build = builders(classes, rows, data["train"][0].shape[1])
        networks = {}
        for name in names:
            source = MADE_OF.get(name, name)
            if source not in networks:
                keras.utils.set_random_seed(seed)
                networks[source] = build[source]()
                if "random features" in source:
                    adapt(networks[source], data["train"][0])
                train(networks[source], data, epochs)
            model = networks[source]
            if "Laplace" in name:
                model = uq.to_laplace(model, *data["train"], verbose=0)
            results[name].append(
                (*scores(model, data, seed), novelty(name, model, data))
            )
            print(f"seed {seed}: {name}", flush=True)
        keras.backend.clear_session()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sets = {"digits": digits, "moons": moons, "fashion": fashion}
    parser.add_argument(
        "--sets",
        nargs="+",
        default=["digits", "moons"],
        metavar="SET",
        help="digits, moons, fashion, or a CSV file with the class in the last column",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=5, help="2 or more")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be 2 or more: a standard error needs two")
    for name in arguments.sets:
        make_data = sets.get(name) or functools.partial(from_file, name)
        results = run(make_data, arguments.seeds, arguments.epochs, arguments.methods)
        print(f"\n{pathlib.Path(name).stem}, {arguments.seeds} seeds\n")
        print(*table(results), sep="\n")


if __name__ == "__main__":
    main()
