"""Many copies of one Keras model, trained at once on rows of their own.

A *lane* is one copy: one member of an ensemble on one split. What a lane does
is what `model.fit` does to a compiled model, written with `stateless_call` and
`stateless_apply`; `jax.vmap` runs it for all splits and members at once, where
`fit` would spend its time on calls of 64 rows.

State and data have the leading axes `(splits, members)` and `(splits,)`.
"""

from typing import NamedTuple

import jax
import keras
import numpy as np

AVERAGED_SHARE = 10  # the average reaches over about the last tenth of the steps


class State(NamedTuple):
    """What one lane changes while it trains; lists of arrays."""

    weights: list
    average: list
    others: list  # seeds, weights that do not learn
    optimizer: list


class Lanes:
    """The training of copies of one model.

    Args:
        build: Function without arguments that returns a built Keras model.
        loss: A `keras.losses.Loss`.
        learning_rate: Of Adam.
    """

    def __init__(self, build, loss, learning_rate):
        self.build, self.loss = build, loss
        self.model = build()
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        over_members = jax.vmap(self._train, in_axes=(0, None, None, 0))
        self._train_all = jax.jit(jax.vmap(over_members), donate_argnums=0)
        self._params_all = jax.jit(self._params_by_split, static_argnums=2)

    def start(self, seeds):
        """The state of new lanes, each with its own initial weights.

        Args:
            seeds: Array of integers, shape `(splits, members)`.
        """
        lanes = []
        for seed in seeds.ravel().tolist():
            keras.utils.set_random_seed(seed)
            model = self.build()
            weights = [np.asarray(v.value) for v in model.trainable_variables]
            others = [np.asarray(v.value) for v in model.non_trainable_variables]
            optimizer = [np.asarray(v.value) for v in self.optimizer.variables]
            lanes.append(State(weights, weights, others, optimizer))
        return jax.tree.map(
            lambda *leaves: np.stack(leaves).reshape(*seeds.shape, *leaves[0].shape),
            *lanes,
        )

    def train(self, state, x, y, order):
        """Some steps of all lanes.

        Args:
            state: A `State` of all lanes; it must not be used again.
            x: Features `(splits, rows, F)`.
            y: Targets `(splits, rows, 1)`.
            order: Row numbers of the batches, `(splits, members, steps, batch)`.

        Returns:
            The new state.
        """
        return self._train_all(state, x, y, order)

    def params(self, state, x, passes=1):
        """Params at the averaged weights, `(splits, members * passes, rows, P)`."""
        return self._params_all(state, x, passes)

    # One lane

    def _train(self, state, x, y, order):
        return jax.lax.scan(
            lambda state, rows: (self._step(state, x[rows], y[rows]), None),
            state,
            order,
        )[0]

    def _step(self, state, x, y):
        gradient = jax.grad(self._loss, has_aux=True)
        gradients, others = gradient(state.weights, state.others, x, y)
        weights, optimizer = self.optimizer.stateless_apply(
            state.optimizer, gradients, state.weights
        )
        # Shamir & Zhang, 2013, ICML, arXiv:1212.1824: polynomial-decay averaging.
        step = self._iterations(optimizer).astype("float32")
        share = AVERAGED_SHARE / (AVERAGED_SHARE - 1 + step)
        average = [
            old + share * (new - old)
            for old, new in zip(state.average, weights, strict=True)
        ]
        return State(weights, average, others, optimizer)

    def _iterations(self, optimizer):
        variables = self.optimizer.variables
        return optimizer[variables.index(self.optimizer.iterations)]

    def _loss(self, weights, others, x, y):
        params, others, losses = self.model.stateless_call(
            weights, others, x, training=True, return_losses=True
        )
        return sum(losses, self.loss(y, params)), others

    def _params(self, state, x, passes):
        def one_pass(others, _):
            params, others = self.model.stateless_call(state.average, others, x)
            return others, params

        return jax.lax.scan(one_pass, state.others, length=passes)[1]

    def _params_by_split(self, state, x, passes):
        def of_split(arguments):
            state, x = arguments
            params = jax.vmap(lambda lane: self._params(lane, x, passes))(state)
            return params.reshape(-1, *params.shape[2:])

        # Not `vmap`: the hidden units of all splits at once may be gigabytes.
        return jax.lax.map(of_split, (state, x))


def batches(rows, batch_size, seed):
    """Endless batches of row numbers: one shuffle of the rows after another.

    Args:
        rows: Array of the rows to train on.
        batch_size: Rows of a batch.
        seed: Seed of the shuffles, an integer or a sequence of these.

    Yields:
        After each `send(steps)` an array `(steps, batch_size)`.
    """
    rng = np.random.default_rng(seed)
    left = np.empty(0, dtype="int32")
    steps = yield
    while True:
        parts, size = [left], len(left)
        while size < steps * batch_size:
            parts.append(rng.permutation(rows).astype("int32"))
            size += len(rows)
        left = np.concatenate(parts)
        taken, left = np.split(left, [steps * batch_size])
        steps = yield taken.reshape(steps, batch_size)
