"""Results on disk, and the table and the figure that are made of them."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import records

import keras_uq_layers as uq
from fashion_mnist_benchmark.methods import METHODS

# https://github.com/google/uncertainty-baselines, baselines/mnist/README.md: NLL,
# accuracy in percent, calibration error.
PUBLISHED = {
    "deterministic": (".321", "91.0", ""),
    "ensemble of 10": (".200", "93.2", ".010"),
    "refined variational": (".259", "90.6", ".011"),
    "variational": (".292", "89.5", ".011"),
}
COLUMNS = (
    "NLL", "accuracy, %", "ECE", "Brier", "AUROC", "AUROC of MI", "FPR 95, %",
    "AURC", "training, s", "passes",
)  # fmt: skip
# Those of the figure, in the order of its legend.
DRAWN = (
    "deterministic", "temperature", "laplace", "random_features", "mc_dropout",
    "variational_all_flipout", "bayesian_all_flipout", "ensemble_10", "best_single",
)  # fmt: skip


class Results:
    """What is finished, in files that are written after each unit of work.

    `fashion_mnist.jsonl` has one JSON object a line: the versions, then for each
    method its settings and a line for each seed. The file is read at each use.

    Args:
        folder: Where `fashion_mnist.jsonl`, the table and the figure lie.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / "fashion_mnist.jsonl"

    @property
    def methods(self):
        """From a method to its settings and to the figures of its seeds."""
        rows = records.read(self.path) if self.path.is_file() else []
        found = {}
        for row in rows:
            name = row.pop("method")
            if "settings" in row:
                found[name] = {**row, "seeds": {}}
            else:
                found[name]["seeds"][row.pop("seed")] = row
        return found

    def missing(self, method, settings, seeds):
        """Those of the seeds that are not finished.

        Raises:
            OtherResults: Those that are were made otherwise.
        """
        known = self.methods.get(method, {"settings": settings, "seeds": {}})
        if known["settings"] != settings:
            raise records.OtherResults(
                f"{self.path} has results of {method!r} that were made with other "
                "settings or data. Give another folder with --results, or remove them."
            )
        return [seed for seed in seeds if seed not in known["seeds"]]

    def add(self, method, settings, seed, figures):
        """Adds the figures of one seed, and writes all."""
        methods = self.methods
        entry = methods.setdefault(method, {"settings": settings, "seeds": {}})
        entry["seeds"][seed] = figures
        rows = []
        for name, found in methods.items():
            rows.append({"method": name, "settings": found["settings"]})
            for one, values in sorted(found["seeds"].items()):
                rows.append({"method": name, "seed": one, **values})
        records.write(self.path, records.versions(), rows)
        self.write()

    def write(self):
        """The table and the figure."""
        methods = self.methods
        if not methods:
            return
        (self.folder / "fashion_mnist.md").write_text(markdown(methods))
        figure = draw(methods)
        figure.savefig(self.folder / "fashion_mnist.png", dpi=100)
        plt.close(figure)


def in_order(methods):
    return [name for name in METHODS if name in methods]


def markdown(methods):
    """The table, beside the published figures."""
    lines = [
        "# Fashion-MNIST",
        "",
        records.header(records.versions()),
        "",
        f"| method | seeds | {' | '.join(COLUMNS)} |",
        f"| --- | --- |{' --- |' * len(COLUMNS)}",
    ]
    for name in in_order(methods):
        seeds = list(methods[name]["seeds"].values())
        cells = [METHODS[name].title, str(len(seeds)), *_cells(seeds)]
        lines.append(f"| {' | '.join(cells)} |")
    empty = [""] * (len(COLUMNS) - 3)
    for title, figures in PUBLISHED.items():
        cells = [f"{title}, as published", "", *figures, *empty]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_choices(methods)]
    return "\n".join([*lines, ""])


def _choices(methods):
    several = [name for name in in_order(methods) if len(METHODS[name].recipes) > 1]
    if several:
        yield "What the validation rows chose:"
        yield ""
    for name in several:
        chosen = next(iter(methods[name]["seeds"].values()))["recipe"]
        others = [recipe.options for recipe in METHODS[name].recipes]
        texts = [
            f"{option} {value}"
            for option, value in chosen.items()
            if any(other[option] != value for other in others)
        ]
        yield f"- {METHODS[name].title}: {', '.join(texts)}"


def _cells(seeds):
    def cell(key, digits, factor=1):
        if key not in seeds[0]:
            return ""
        values = [factor * figures[key] for figures in seeds]
        return records.mean_and_error(values, digits)

    return [
        cell("nll", 4),
        cell("accuracy", 2, factor=100),
        cell("ece", 4),
        cell("brier", 4),
        cell("auroc", 4),
        cell("auroc_of_information", 4),
        cell("false_positives", 1, factor=100),
        cell("aurc", 4),
        f"{np.mean([figures['processor_seconds'] for figures in seeds]):.0f}",
        str(seeds[0]["passes"]),
    ]


@uq.plotting.style()
def draw(methods):
    """NLL and calibration error against the angle by which the images are turned."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = [name for name in DRAWN if name in methods]
    for i, name in enumerate(names):
        seeds = list(methods[name]["seeds"].values())
        # Five colours come in turn: the second five methods are dashed.
        line = "o--" if i >= 5 else "o-"
        for ax, key in zip(axes, ("nll", "ece"), strict=True):
            upright = np.mean([figures[key] for figures in seeds])
            angles = list(seeds[0]["rotated"])
            turned = [
                np.mean([figures["rotated"][angle][key] for figures in seeds])
                for angle in angles
            ]
            ax.plot(
                [0, *map(int, angles)],
                [upright, *turned],
                line,
                markersize=3,
                label=METHODS[name].title.replace("`", ""),
            )
    axes[0].set(ylabel="negative log likelihood, nats")
    axes[1].set(ylabel="expected calibration error")
    for ax in axes:
        ax.set(xlabel="angle, degrees", xticks=range(0, 91, 15), ylim=(0, None))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    return figure
