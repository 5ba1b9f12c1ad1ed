"""Why the intervals of `best` cover as much as they do; it decides nothing.

For one candidate of the method `best` (5 degrees of freedom, no dropout), over
the splits: the networks of the validation stage on validation and
on test rows, and the networks trained on all training rows on test rows, with
the factor on the scale that the validation rows chose.

- NLL and RMSE: in standard deviations of y, as the networks see it.
- cover 90 and cover 50: share of the targets in the central intervals, in %.
- outer 2: share outside of the central 98 % interval, in %; 2 is right.
- the last columns: NLL with the scale multiplied once more.

    python benchmarks/uci_coverage.py --data DIR --sets yacht [--splits 20]
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from uci_benchmark import data
from uci_benchmark import protocol
from uci_benchmark.methods import METHODS

CANDIDATE = "df 5, dropout 0"
MORE = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)


def measure(family, params, y, factors):
    """One row of the table, from lists with an entry for each split."""
    below, errors, nll = [], [], np.zeros(len(MORE))
    for p, t, factor in zip(params, y, factors, strict=True):
        below.append(protocol.cdf(family, protocol.with_factor(family, p, factor), t))
        errors.append(np.sqrt(np.mean((family.mean(p).mean(axis=0) - t) ** 2)))
        nll += [
            protocol.mixture_nll(family, p[None], t[None], factor * more)[0] / len(y)
            for more in MORE
        ]
    distance = 2.0 * np.abs(np.concatenate(below) - 0.5)
    shares = [
        np.mean(distance <= 0.9),
        np.mean(distance <= 0.5),
        np.mean(distance > 0.98),
    ]
    cells = [f"{np.mean(errors):.3f}", *(f"{100 * s:.1f}" for s in shares)]
    return [*cells, *(f"{value:.3f}" for value in nll)]


def coverage(table, splits, most_steps):
    (candidate,) = (c for c in METHODS["best"].candidates if c.name == CANDIDATE)
    method = METHODS["best"]._replace(candidates=[candidate])
    parts = data.published_splits(len(table.x), splits)
    train, test = zip(*parts, strict=True)
    choices = protocol.choose(
        method, table, train, range(splits), most_steps, lambda steps: None
    )
    factors = [choice.factor for choice in choices]
    cut = round((1 - protocol.VALIDATION_SHARE) * len(train[0]))
    stages = {
        "80 %": ([rows[:cut] for rows in train], 0, protocol.FIRST_LOOK),
        "all": (train, 1, round(protocol.FIRST_LOOK * len(train[0]) / cut)),
    }
    held_out = {"validation": [rows[cut:] for rows in train], "test": test}
    looks = protocol.looks(most_steps)
    for stage, (rows, seed, chunk) in stages.items():
        names = [name for name in held_out if (stage, name) != ("all", "validation")]
        found = {name: [None] * splits for name in names}
        scaled = protocol.Rows.of(table, rows)
        training = protocol.trained(
            method,
            candidate,
            scaled,
            range(splits),
            protocol.batch_size(len(train[0])),
            [chunk * look // looks[0] for look in looks],
            seed,
            lambda steps: None,
        )
        for look, (lanes, state) in zip(looks, training, strict=True):
            for name in names:
                x = np.stack(
                    [x[r] for x, r in zip(scaled.x, held_out[name], strict=True)]
                )
                params = lanes.params(state, x)
                for i, choice in enumerate(choices):
                    if choice.steps == look:
                        found[name][i] = params[i]
        for name in names:
            y = [y[r] for y, r in zip(scaled.y, held_out[name], strict=True)]
            row = measure(candidate.family, found[name], y, factors)
            print(
                f"| {table.name} | {stage} | {name} | {' | '.join(row)} |", flush=True
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--steps", type=int, default=16_000)
    options = parser.parse_args()
    print("| set | trained on | rows | RMSE | cover 90 | cover 50 | outer 2 ", end="")
    print(" ".join(f"| NLL x {more}" for more in MORE), "|")
    print("|" + " --- |" * (7 + len(MORE)))
    for name in options.sets:
        coverage(data.load(options.data, name), options.splits, options.steps)


if __name__ == "__main__":
    main()
