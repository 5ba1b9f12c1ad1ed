"""Our layers beside every peer: a training step and the passes of a prediction.

    KERAS_BACKEND=torch python benchmarks/peers.py [--seconds 6] [--cases "2 x 512"]

All variants of a case run in turn within a round, in one process; ratios are
taken within the round, and printed are medians and quartiles. All have the same
network, batch, loss and optimizer, a KL of the same weight, and as many random
weights, bias included. The tables go to `results/peers_BACKEND.md`.

The peers are in the extra `peers`. One that cannot be imported is left out, and
a line says so.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import records
from peers_benchmark.cases import CASES
from peers_benchmark.report import Block
from peers_benchmark.report import markdown
from timing import interleaved

RESULTS = Path(__file__).parent / "results"
PEERS = {
    "tensorflow": ("tensorflow-probability", "tf_keras"),
    "torch": ("bayesian-torch", "torch-uncertainty", "laplace-torch"),
    "jax": ("numpyro",),
}
FEWEST_ROUNDS, MOST_ROUNDS = 5, 60
# Seconds: a function is called until about so many have passed.
SHORTEST = 0.01


def timed(functions, seconds):
    """The times of `timing.interleaved`, with the rounds that fit into `seconds`."""
    for function in functions:
        function()  # compiles
    start = time.perf_counter()
    for function in functions:
        function()
    once = time.perf_counter() - start
    repeats = max(1, round(SHORTEST * len(functions) / once))
    rounds = np.clip(seconds / (once * repeats), FEWEST_ROUNDS, MOST_ROUNDS)
    return list(interleaved(dict(enumerate(functions)), int(rounds), repeats).values())


def measure(case, seconds):
    """The blocks of a case: steps in each mode of the backend, and predictions."""
    backend = importlib.import_module(f"peers_benchmark.on_{keras.backend.backend()}")
    for i, (mode, option) in enumerate(backend.MODES.items()):
        variants = list(backend.variants(case, option))
        kinds = {f"training step, {mode}": "step"}
        if i == 0:
            kinds["predictive samples"] = "predict"
        for what, kind in kinds.items():
            chosen = [v for v in variants if getattr(v, kind)]
            times = timed([getattr(v, kind) for v in chosen], seconds)
            yield Block(case.name, what, backend.BASE, chosen, times)


def versions():
    """Those of `records`, and those of the peers that are installed."""
    found = records.versions()
    for name in PEERS[keras.backend.backend()]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.setdefault(name, importlib.metadata.version(name))
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of a block")
    parser.add_argument("--cases", nargs="+", default=[""], help="parts of names")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    path = options.results / f"peers_{keras.backend.backend()}.md"
    blocks = []
    # In the order of the command line.
    chosen = [name for part in options.cases for name in CASES if part in name]
    for case in (CASES[name] for name in dict.fromkeys(chosen)):
        for block in measure(case, options.seconds):
            blocks.append(block)
            print("\n".join(block.lines()), flush=True)
        in_order = sorted(blocks, key=lambda block: list(CASES).index(block.case))
        path.write_text(markdown(records.header(versions()), in_order))


if __name__ == "__main__":
    main()
