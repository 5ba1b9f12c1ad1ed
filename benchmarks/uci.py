"""Regression on the UCI sets by the published protocol, for the library's methods.

One hidden layer of 50 ReLU units, the published splits, root mean squared
error and negative log likelihood in the unit of y, coverage of the 90 %
interval. The rule by which everything is chosen is in
`uci_benchmark/protocol.py`.

    python benchmarks/uci.py --data DIR [--sets yacht ...] [--methods best ...]

It needs JAX beside what the package needs. Finished splits are in
`results/uci.jsonl` and are not run again; `results/uci.md` has the tables.
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

if importlib.util.find_spec("jax") is None:
    sys.exit("This benchmark needs JAX: pip install jax")

# Of the backends of Keras, JAX trains many models at once.
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from records import OtherResults
from records import positive
from uci_benchmark import data
from uci_benchmark import protocol
from uci_benchmark.methods import METHODS
from uci_benchmark.report import Results
from uci_benchmark.report import summary


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with tables NAME.txt")
    parser.add_argument("--sets", nargs="+", help="names of tables; all by default")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="METHOD",
        help=f"of {', '.join(METHODS)}; all by default",
    )
    parser.add_argument("--splits", type=positive, default=20, help="20 by default")
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[SET=]COLUMN",
        help="column of the target, of all sets or of one; the last by default",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=16_000,
        help="largest number of steps that the rule may choose, 16000 by default",
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        default=Path(__file__).parent / "results",
        help="where uci.jsonl and uci.md are written",
    )
    return parser.parse_args(arguments)


def target_column(options, name):
    column = -1
    for entry in options:
        only, _, number = entry.rpartition("=")
        if only not in ("", name):
            continue
        try:
            column = int(number)
        except ValueError:
            raise data.DataError(
                f"`--target` must be COLUMN or SET=COLUMN. Received: {entry}"
            ) from None
    return column


def run(table, name, splits, most_steps, results):
    """Runs those splits of one method on one set that are not finished."""
    method = METHODS[name]
    settings = protocol.settings(method, most_steps)
    missing = results.missing(table, name, settings, splits)
    for start in range(0, len(missing), protocol.BLOCK):
        block = missing[start : start + protocol.BLOCK]
        total = protocol.total_steps(method, most_steps)
        print(f"{table.name}, {name}, splits {block[0]} to {block[-1]}", flush=True)
        bar = keras.utils.Progbar(total, unit_name="step")
        begun = time.perf_counter()
        figures = protocol.run(method, table, block, most_steps, bar.add)
        bar.update(total, finalize=True)
        seconds = (time.perf_counter() - begun) / len(block)
        for entry in figures.values():
            entry["seconds"] = round(seconds, 2)
        results.add(table, name, settings, figures)


def main(arguments=None):
    options = parse(arguments)
    try:
        if options.data is None:
            raise data.DataError("`--data` must name the folder with the tables.")
        results = Results(options.results)
        tables = [
            data.load(options.data, name, target_column(options.target, name))
            for name in options.sets or data.names(options.data)
        ]
        for table in tables:
            for name in options.methods:
                settings = protocol.settings(METHODS[name], options.steps)
                results.missing(table, name, settings, [])
    except (data.DataError, OtherResults) as error:
        sys.exit(str(error))
    for table in tables:
        for name in options.methods:
            run(table, name, range(options.splits), options.steps, results)
            splits = results.sets[table.name]["methods"][name]["splits"]
            print(
                f"{table.name}, {name}: NLL {summary(splits, 'nll')}, "
                f"RMSE {summary(splits, 'rmse')}, {len(splits)} splits"
            )
    results.write()
    print(f"Tables in {results.folder / 'uci.md'}")


if __name__ == "__main__":
    main()
