"""Results on disk, and the tables that are made of them."""

from pathlib import Path

import jax
import numpy as np
import records
from records import OtherResults

from uci_benchmark.methods import METHODS

# Lakshminarayanan, Pritzel & Blundell, 2017, NeurIPS, arXiv:1612.01474, table
# 1: probabilistic backpropagation, MC dropout, Deep Ensembles. The last row is
# Mukhoti, Stenetorp & Gal, 2018, arXiv:1811.09385: MC dropout with a grid
# search and 100 times the epochs.
PUBLISHED_METHODS = (
    "probabilistic backpropagation",
    "MC dropout",
    "Deep Ensembles",
    "MC dropout, tuned",
)
PUBLISHED = {
    "concrete": {
        "nll": ("3.16±.02", "3.04±.09", "3.06±.18", "2.937±.025"),
        "rmse": ("5.67±.09", "5.23±.53", "6.03±.58", "4.826"),
    },
    "energy": {
        "nll": ("2.04±.02", "1.99±.09", "1.38±.22", "1.212±.005"),
        "rmse": ("1.80±.05", "1.66±.19", "2.09±.29", ".539"),
    },
    "power-plant": {
        "nll": ("2.84±.01", "2.80±.05", "2.79±.04", "2.808±.009"),
        "rmse": ("4.12±.03", "4.02±.18", "4.11±.17", "4.014"),
    },
    "wine-quality-red": {
        "nll": (".97±.01", ".93±.06", ".94±.12", ".928±.013"),
        "rmse": (".64±.01", ".62±.04", ".64±.04", ".622"),
    },
    "yacht": {
        "nll": ("1.63±.02", "1.55±.12", "1.18±.21", "1.250±.015"),
        "rmse": ("1.02±.05", "1.11±.38", "1.58±.48", ".666"),
    },
}


def to_rows(sets):
    """Each set, each method on it and each finished split as one flat dict."""
    for name, found in sets.items():
        yield {"set": name, "data": found["data"]}
        for method, entry in found["methods"].items():
            key = {"set": name, "method": method}
            yield {**key, "settings": entry["settings"]}
            for split, figures in entry["splits"].items():
                yield {**key, "split": split, **figures}


def from_rows(rows):
    """The sets that `to_rows` was given."""
    sets = {}
    for row in rows:
        row = dict(row)
        name, method = row.pop("set"), row.pop("method", None)
        if method is None:
            sets[name] = {**row, "methods": {}}
            continue
        methods, split = sets[name]["methods"], row.pop("split", None)
        if split is None:
            methods[method] = {**row, "splits": {}}
        else:
            methods[method]["splits"][split] = row
    return sets


def read(path):
    """The sets in a file of results."""
    return from_rows(records.read(path))


class Results:
    """What is finished, in a file that is written after each block.

    The file has one JSON object a line: the versions, then the rows of
    `to_rows`.

    Args:
        folder: Where `uci.jsonl` and `uci.md` lie.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / "uci.jsonl"
        self.sets = read(self.path) if self.path.is_file() else {}

    def missing(self, table, method, settings, splits):
        """Those of the splits that are not finished.

        Raises:
            OtherResults: Those that are were made otherwise.
        """
        found = self._entry(table, method, settings)["splits"]
        return [split for split in splits if str(split) not in found]

    def add(self, table, method, settings, results):
        """Adds results, a dict from split to figures, and writes them."""
        entry = self._entry(table, method, settings)
        entry["splits"].update({str(split): f for split, f in results.items()})
        known = self.sets.setdefault(
            table.name, {"data": description(table), "methods": {}}
        )
        known["methods"][method] = entry
        self.write()

    def write(self):
        """The figures and the tables."""
        records.write(self.path, versions(), to_rows(self.sets))
        (self.folder / "uci.md").write_text(markdown(self.sets))

    def _entry(self, table, method, settings):
        """The results so far, none if there are none."""
        fresh = {"settings": settings, "splits": {}}
        known = self.sets.get(table.name)
        entry = known["methods"].get(method, fresh) if known else fresh
        same_data = known is None or known["data"] == description(table)
        if not same_data or entry["settings"] != settings:
            raise OtherResults(
                f"{self.path} has results of {method!r} on {table.name!r} that were "
                f"made with other {'settings' if same_data else 'data'}. Give another "
                "folder with --results, or remove them."
            )
        return entry


def description(table):
    """What tells a table from others, for the file of results."""
    return {
        "rows": len(table.x),
        "features": table.x.shape[1],
        "sha256": table.sha256,
    }


def versions():
    found = records.versions()
    return {**found, "machine": f"{found['machine']}, JAX on {jax.default_backend()}"}


def summary(splits, key):
    """`mean ± standard error` over the splits."""
    values = np.array([figures[key] for figures in splits.values()])
    if key == "coverage":
        digits = 1
    else:
        # Three significant digits of an error: a target may vary by thousandths.
        size = max(abs(values.mean()), 1e-12)
        digits = 3 if key == "nll" else max(0, 2 - int(np.floor(np.log10(size))))
    return records.mean_and_error(values, digits)


def markdown(sets):
    """The tables of all sets, beside the published figures."""
    lines = ["# UCI regression", "", records.header(versions()), ""]
    lines += _overview(sets)
    lines += _differences(sets)
    for name, found in sorted(sets.items()):
        data = found["data"]
        lines += [
            f"## {name}",
            "",
            f"{data['rows']} rows, {data['features']} features",
            "",
            "| method | splits | NLL | RMSE | coverage of 90 %, % | s / split |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for method in sorted(found["methods"], key=list(METHODS).index):
            splits = found["methods"][method]["splits"]
            if not splits:
                continue
            cells = [
                METHODS[method].title,
                str(len(splits)),
                *_figures(splits),
                f"{np.mean([v['seconds'] for v in splits.values()]):.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        published = PUBLISHED.get(name)
        if published:
            for title, nll, rmse in zip(
                PUBLISHED_METHODS, published["nll"], published["rmse"], strict=True
            ):
                lines.append(f"| {title}, as published | 20 | {nll} | {rmse} | | |")
        lines.append("")
    return "\n".join(lines)


def _overview(sets):
    """The method `best` beside the smallest published figure of each set."""
    lines = [
        "| set | smallest published NLL / RMSE | `best`, splits | NLL | RMSE | "
        "coverage of 90 %, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in sorted(sets.items()):
        splits = found["methods"].get("best", {}).get("splits")
        if not splits:
            continue
        published = PUBLISHED.get(name, {})
        smallest = [
            min(texts, key=lambda text: float(text.partition("±")[0]))
            for texts in published.values()
        ]
        cells = [name, " / ".join(smallest), str(len(splits)), *_figures(splits)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _differences(sets):
    """One network of each kind against the constant scale, split by split."""
    lines = [
        "One network, the difference to a constant scale on the same split:",
        "",
        "| set | method | splits | NLL | RMSE |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in sorted(sets.items()):
        base = found["methods"].get("constant", {}).get("splits", {})
        for method in sorted(found["methods"], key=list(METHODS).index):
            entry = found["methods"][method]
            single = METHODS[method].members == METHODS[method].passes == 1
            both = sorted(set(base) & set(entry["splits"]), key=int)
            if method == "constant" or not single or not both:
                continue
            cells = [
                _difference(entry["splits"], base, both, k) for k in ("nll", "rmse")
            ]
            title = METHODS[method].title
            lines.append(f"| {name} | {title} | {len(both)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _difference(splits, base, both, key):
    """`mean ± standard error` of the difference on the same splits."""
    values = np.array([splits[split][key] - base[split][key] for split in both])
    error = values.std(ddof=min(1, len(both) - 1)) / np.sqrt(len(both))
    return f"{values.mean():+.3f} ± {error:.3f}"


def _figures(splits):
    percent = {k: {"coverage": 100 * v["coverage"]} for k, v in splits.items()}
    return [
        summary(splits, "nll"),
        summary(splits, "rmse"),
        summary(percent, "coverage"),
    ]
