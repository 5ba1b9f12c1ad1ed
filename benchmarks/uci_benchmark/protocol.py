"""The rule by which every method is trained, chosen and tested.

The same for every set and every method; nothing in it looks at a test row:

1. The last 20 % of the training rows, in the order of the published split,
   are the validation rows; the network is trained on the other 80 %.
2. Every candidate of the method is trained for the largest number of steps and
   looked at after 250, 500, 1000, ... of them, at the average of its weights.
   For each of these the negative log likelihood of the validation rows is
   taken, for methods that are calibrated with each factor of a grid on the
   scale. The smallest one decides: candidate, steps and factor.
3. New networks, of new initial weights, are trained with that choice on all
   training rows, for the same number of epochs, and tested once.

A batch has 64 rows, on larger sets 128 or 256: a fiftieth of the training part,
rounded down to one of the three. Adam keeps its learning rate; the average of
the weights takes the place of a decay.

Features and target are standardised on the rows that the network is trained
on: all of the training part in step 3, 80 % of it in steps 1 and 2.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import keras_uq_layers as uq
from uci_benchmark.data import Unit
from uci_benchmark.data import published_splits
from uci_benchmark.lanes import Lanes
from uci_benchmark.lanes import batches

LEAST_BATCH, MOST_BATCH = 64, 256
BATCHES = 50  # of an epoch, at least, where a batch is not the smallest
FIRST_LOOK = 250  # steps
VALIDATION_SHARE = 0.2
FACTORS = np.geomspace(0.4, 4.0, 24)
LEVEL = 0.9  # of the interval whose coverage is reported
BLOCK = 10  # splits that are trained at once; it changes nothing but the speed


def settings(method, most_steps):
    """All that the results of a method depend on, for the file of results."""
    return {
        "candidates": [
            f"{c.name or 'only'}; beta {c.beta:g}; learning rate {c.learning_rate:g}"
            for c in method.candidates
        ],
        "members": method.members,
        "passes": method.passes,
        "factors": FACTORS.round(3).tolist() if method.calibrated else [1.0],
        "batch_sizes": [LEAST_BATCH, MOST_BATCH, BATCHES],
        "looks": looks(most_steps),
    }


def run(method, table, splits, most_steps, progress):
    """The rule, for some splits of one set.

    Args:
        method: A `Method`.
        table: A `data.Table`.
        splits: Numbers of the splits.
        most_steps: Largest number of steps that the rule may choose.
        progress: Called with the number of steps that were done.

    Returns:
        Dict from the number of a split to its figures and choices.
    """
    parts = published_splits(len(table.x), max(splits) + 1)
    parts = [parts[split] for split in splits]
    train = [rows for rows, _ in parts]
    choices = choose(method, table, train, splits, most_steps, progress)
    found = test(method, table, parts, splits, choices, progress)
    return {
        split: {
            **figures,
            "validation_nll": choice.nll,
            "candidate": method.candidates[choice.candidate].name,
            "steps": choice.steps,
            "factor": choice.factor,
        }
        for split, figures, choice in zip(splits, found, choices, strict=True)
    }


def total_steps(method, most_steps):
    """Number of steps of `run`, at most."""
    longest = looks(most_steps)[-1]
    again = longest / (1 - VALIDATION_SHARE)
    return round(len(method.candidates) * longest + again)


class Choice(NamedTuple):
    """What the validation rows decide for one split."""

    nll: float
    candidate: int
    steps: int
    factor: float


def batch_size(rows):
    """Rows of a batch, from the number of rows of the training part."""
    size = LEAST_BATCH
    while 2 * size <= min(MOST_BATCH, rows // BATCHES):
        size *= 2
    return size


def looks(most_steps):
    """Numbers of steps after which a candidate is looked at."""
    doublings = max(0, int(np.log2(most_steps / FIRST_LOOK)))
    return [FIRST_LOOK * 2**k for k in range(doublings + 1)]


class Rows(NamedTuple):
    """The standardised table of each split, and the rows to train on."""

    x: np.ndarray  # (splits, N, F)
    y: np.ndarray  # (splits, N, 1)
    train: list
    target_std: np.ndarray

    @classmethod
    def of(cls, table, train):
        x_units = [Unit.of(table.x[rows]) for rows in train]
        y_units = [Unit.of(table.y[rows]) for rows in train]
        return cls(
            np.stack([unit.standardise(table.x) for unit in x_units]),
            np.stack([unit.standardise(table.y) for unit in y_units]),
            train,
            np.array([unit.std[0] for unit in y_units]),
        )


def trained(method, candidate, data, splits, batch, steps, seed, progress):
    """Trains lanes and yields them at each of some numbers of steps.

    Args:
        method: A `Method`.
        candidate: One of its candidates.
        data: A `Rows`.
        splits: Numbers of the splits, which seed the lanes: a lane is the
            same whatever lanes there are beside it.
        batch: Rows of a batch.
        steps: Increasing numbers of steps, multiples of the first.
        seed: Integer that tells this training from others of the same split.
        progress: Called with the number of steps that were done.

    Yields:
        The `Lanes` and their state.
    """
    features, rows = data.x.shape[-1], len(data.train[0])
    lanes = Lanes(
        lambda: candidate.build(features, rows),
        candidate.loss(),
        candidate.learning_rate,
    )
    members = range(method.members)
    seeds = np.array([[lane_seed(seed, s, m) for m in members] for s in splits])
    state = lanes.start(seeds)
    streams = [
        [batches(train, batch, lane) for lane in row]
        for train, row in zip(data.train, seeds.tolist(), strict=True)
    ]
    for row in streams:
        for stream in row:
            next(stream)
    done = 0
    for wanted in steps:
        while done < wanted:
            order = np.stack(
                [np.stack([stream.send(steps[0]) for stream in row]) for row in streams]
            )
            state = lanes.train(state, data.x, data.y, order)
            done += steps[0]
            progress(steps[0])
        yield lanes, state


def lane_seed(seed, split, member):
    return int(np.random.SeedSequence([seed, split, member]).generate_state(1)[0])


@functools.partial(jax.jit, static_argnums=0)
def mixture_nll(family, params, y, factor):
    """Mean negative log likelihood of each split.

    Args:
        family: The family of the params.
        params: Params `(splits, components, rows, P)`.
        y: Targets `(splits, rows, 1)`.
        factor: Factor on the scale of every component, about its mean.
    """
    scaled = with_factor(family, params, factor)
    y = jnp.broadcast_to(y[:, None], (*params.shape[:-1], 1))
    terms = family.log_prob(y, scaled)
    mixture = jax.nn.logsumexp(terms, axis=1) - jnp.log(terms.shape[1])
    return -mixture.mean(axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def cdf(family, params, y):
    """Distribution function of a mixture `(components, rows, P)` at `(rows, 1)`."""
    y = jnp.broadcast_to(y, (*params.shape[:-1], 1))
    return family.cdf(y, params).mean(axis=0)


def with_factor(family, params, factor):
    """Params with the scale multiplied; the mean stays."""
    return family.affine(params, (1.0 - factor) * family.mean(params), factor)


def choose(method, table, train, splits, most_steps, progress):
    """Steps 1 and 2 of the rule: a `Choice` for each split."""
    cut = round((1 - VALIDATION_SHARE) * len(train[0]))
    data = Rows.of(table, [rows[:cut] for rows in train])
    held_out = [rows[cut:] for rows in train]
    x = np.stack([x[rows] for x, rows in zip(data.x, held_out, strict=True)])
    y = np.stack([y[rows] for y, rows in zip(data.y, held_out, strict=True)])
    factors = FACTORS if method.calibrated else np.ones(1)
    best = [Choice(np.inf, 0, FIRST_LOOK, 1.0)] * len(splits)
    for number, candidate in enumerate(method.candidates):
        training = trained(
            method,
            candidate,
            data,
            splits,
            batch_size(len(train[0])),
            looks(most_steps),
            seed=0,
            progress=progress,
        )
        for steps, (lanes, state) in zip(looks(most_steps), training, strict=True):
            params = lanes.params(state, x, method.passes)
            for factor in factors.tolist():
                nll = np.asarray(mixture_nll(candidate.family, params, y, factor))
                for i, value in enumerate(nll.tolist()):
                    # A NaN is no better than anything.
                    if value < best[i].nll:
                        best[i] = Choice(value, number, steps, factor)
    return [
        c._replace(nll=c.nll + np.log(s))
        for c, s in zip(best, data.target_std, strict=True)
    ]


def test(method, table, parts, splits, choices, progress):
    """Step 3 of the rule: the test figures of each split.

    Args:
        parts: Pairs of training and test rows.
        choices: A `Choice` for each.

    Returns:
        List of dicts.
    """
    train, held_out = zip(*parts, strict=True)
    results = [None] * len(splits)
    # The lanes of one training share their program, and so the candidate.
    for number in sorted({choice.candidate for choice in choices}):
        mine = [i for i, c in enumerate(choices) if c.candidate == number]
        candidate = method.candidates[number]
        data = Rows.of(table, [train[i] for i in mine])
        cut = round((1 - VALIDATION_SHARE) * len(train[0]))
        chunk = round(FIRST_LOOK * len(train[0]) / cut)
        longest = max(choices[i].steps for i in mine)
        steps = [chunk * look // FIRST_LOOK for look in looks(longest)]
        model = None
        training = trained(
            method,
            candidate,
            data,
            [splits[i] for i in mine],
            batch_size(len(train[0])),
            steps,
            seed=1,
            progress=progress,
        )
        for look, (lanes, state) in zip(looks(longest), training, strict=True):
            if model is None:
                model = as_ensemble(lanes, method.members)
            for position, i in enumerate(mine):
                if choices[i].steps != look:
                    continue
                set_weights(model, state, position)
                rows = held_out[i]
                results[i] = figures(
                    model,
                    method,
                    candidate.family,
                    choices[i].factor,
                    data.x[position][rows],
                    data.y[position][rows],
                    data.target_std[position],
                )
    return results


def as_ensemble(lanes, members):
    return uq.Ensemble.from_models([lanes.build() for _ in range(members)])


def set_weights(ensemble, state, position):
    """The averaged weights and the seeds of the lanes of one split."""
    for m, member in enumerate(ensemble.members):
        for variable, values in zip(
            member.trainable_variables, state.average, strict=True
        ):
            variable.assign(values[position, m])
        for variable, values in zip(
            member.non_trainable_variables, state.others, strict=True
        ):
            variable.assign(values[position, m])


def figures(model, method, family, factor, x, y, target_std):
    """The test figures of one trained model, in the unit of y."""
    prediction = uq.predict(model, x, family, samples=method.passes, seed=0, verbose=0)
    params = with_factor(family, jnp.asarray(prediction.samples), factor)
    prediction = uq.Prediction(params, family)
    error = target_std * (prediction.mean - y)
    # The density of y is that of the standardised target over its unit.
    nll = np.log(target_std) - prediction.log_prob(y)
    # y is inside of the central interval where the distribution function says
    # so: the same share as with `prediction.interval`, without a root search.
    below = np.asarray(cdf(family, params, y))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "nll": float(np.mean(nll)),
        "coverage": float(np.mean(np.abs(below - 0.5) <= LEVEL / 2)),
    }
