"""The private model behind `predict`: all passes of a model in one graph."""

import math

import keras
import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from keras_uq_layers.prediction.prediction import CHECKED_ROWS
from keras_uq_layers.prediction.prediction import central_density

# Rows of a batch are chosen so that the widest activation of one pass has
# at most this many entries (16 MB in float32), as have the params of a batch.
_ENTRIES = 2**22
_MOST_ROWS = 8192
_ROWS_OF_UNKNOWN_MODELS = 256


class _Plan:
    """What is found out about the model; a plain object, not seen by Keras."""

    random = None  # whether a pass draws random numbers at all
    head = None  # the deterministic part, from the inputs to a cut
    tail = None  # the rest, from the cut to the output


class Sampler(keras.Model):
    """Maps `x` to what is wanted of `samples` passes of another model.

    The passes run in one loop in the graph. In pass `s` the seed generator
    `g` starts from the state `[k(seed, s, g), 0]`. All passes run inside a
    `keras.StatelessScope`, so that nothing of the model is ever assigned.

    Args:
        model: A built Keras model with one output `(B, ..., P * D)`, or
            `(B, M, ..., P * D)` where its `member_axis` is 1.
        samples: Number of passes.
        family: A `families.Family`.
        summary: Function from params `(S, B, ..., P * D)` to what the batch
            returns: a dict of tensors, `B` first. Added to it is `density`,
            by which it shows that params are outside their domain.
    """

    def __init__(self, model, samples, family, summary):
        # No autocast: the model gets its inputs as they are.
        super().__init__(autocast=False, dtype="float32", name="predict")
        self.model = model
        self.family = family
        self.summary = summary
        self.plan = _Plan()
        self.generators = seed_generators(model)
        self.seed_states = self.add_weight(
            name="seed_states",
            shape=(samples, len(self.generators), 2),
            dtype=standardize_dtype(self.generators[0].state.dtype),
            initializer="zeros",
            trainable=False,
        )
        self.built = True
        # XLA is the slower one here on a CPU; JAX has no other compiler.
        self.compile(jit_compile=keras.backend.backend() == "jax")

    def seed(self, seed):
        """Makes pass `s` a function of `(seed, s)` alone."""
        # Row by row: the first passes are the same however many there are.
        keys = np.random.default_rng(seed).integers(
            2**31 - 1, size=self.seed_states.shape[:2]
        )
        states = np.stack([keys, np.zeros_like(keys)], axis=-1)
        self.seed_states.assign(states.astype(self.seed_states.dtype))

    def call(self, inputs, training=False):
        values = [(v, v.value) for v in self.model.variables]
        states = ops.convert_to_tensor(self.seed_states)

        def run(function, argument, s):
            with self._scope(values, s):
                return function(argument)

        if self.plan.random is None:
            self._make_plan(inputs, values, states[0])
        if not self.plan.random:
            return self._summarize(run(self._whole, inputs, states[0])[None])
        if self.plan.tail is None:
            function, argument = self._whole, inputs
        else:
            function = self.plan.tail
            argument = run(self.plan.head, inputs, states[0])
        return self._summarize(ops.map(lambda s: run(function, argument, s), states))

    def _whole(self, inputs):
        return self.model(inputs, training=False)

    def _scope(self, values, states):
        mapping = {id(v): (v, value) for v, value in values}
        for i, generator in enumerate(self.generators):
            mapping[id(generator.state)] = (generator.state, states[i])
        return keras.StatelessScope(list(mapping.values()))

    def _make_plan(self, inputs, values, states):
        """Finds out which generators a pass draws from, by one pass.

        In a graph this pass is only traced: nothing uses its output.
        """
        scope = self._scope(values, states)
        start = [scope.get_current_value(g.state) for g in self.generators]
        with scope:
            output = self._whole(inputs)
        self._check_output(output)
        drawn = [
            g
            for g, state in zip(self.generators, start, strict=True)
            if scope.get_current_value(g.state) is not state
        ]
        cut = find_cut(self.model, drawn) if drawn else None
        if cut is not None:
            self.plan.head, self.plan.tail = cut
        self.plan.random = bool(drawn)

    def _check_output(self, output):
        if not ops.is_tensor(output):
            raise ValueError(
                "`model` must have one output, a tensor of params. Received: an "
                f"output of type {type(output).__name__}. Predict one at a time: "
                "`keras.Model(model.inputs, output)`"
            )
        shape = tuple(output.shape)
        try:
            if len(shape) < (2 if self._member_axis is None else 3):
                raise ValueError("The output must have shape (batch, ..., P * D)")
            self.family.units(shape[-1])
        except ValueError as error:
            raise ValueError(
                f"`family` must fit the output of `model`. {error}. "
                f"Received: family={self.family!r}, output of shape {shape}"
            ) from error

    @property
    def _member_axis(self):
        return getattr(self.model, "member_axis", None)

    def _summarize(self, outputs):
        """From passes `(S, B, ...)` or `(S, B, M, ...)` to the summary."""
        if self._member_axis is not None:
            outputs = ops.swapaxes(outputs, 1, 2)
            shape = ops.shape(outputs)
            outputs = ops.reshape(outputs, (shape[0] * shape[1], *shape[2:]))
        density = central_density(self.family, outputs[0, :CHECKED_ROWS])
        return {**self.summary(outputs), "density": density}


def seed_generators(model):
    """All seed generators that a pass of the model may draw from."""
    # `keras.random` draws from the global one where it is given no seed.
    from keras.src.random.seed_generator import global_seed_generator

    found = [global_seed_generator()]
    for layer in model._flatten_layers():
        found.extend(layer._seed_generators)
    return list({id(g): g for g in found}.values())


def find_cut(model, drawn):
    """Cuts a graph of layers in front of its first random layers.

    Args:
        model: A Keras model.
        drawn: The seed generators that draw at inference.

    Returns:
        The deterministic part and the rest, as functions; None for a
        subclassed model, or where the owner of a generator is not found.
    """
    from keras.src.models.functional import Functional

    if type(model).call not in (Functional.call, keras.Sequential.call):
        return None
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    graph = keras.Function(inputs, model.outputs)
    wanted = {id(g) for g in drawn}
    owners = {
        id(op): {id(g) for part in op._flatten_layers() for g in part._seed_generators}
        for op in graph.operations
        if isinstance(op, keras.layers.Layer)
    }
    if not wanted <= set().union(*owners.values()):
        return None
    random, cut = set(), {}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input:
                continue
            draws = bool(owners.get(id(node.operation), set()) & wanted)
            if draws or any(id(t) in random for t in node.input_tensors):
                random.update(id(t) for t in node.outputs)
                cut.update({id(t): t for t in node.input_tensors})
    cut = [tensor for key, tensor in cut.items() if key not in random]
    head = keras.Model(inputs, cut)
    tail = keras.Function(cut, model.outputs[0])
    # Not by calling the Function: it would insist on the batch size with which
    # a Sequential model happened to be built.
    return head, tail._run_through_graph


def rows_at_a_time(model, samples, params_size):
    """The default batch size: as large as memory and caches like.

    The loop over the passes costs about the same for few rows as for
    thousands, so that batches should be large; yet an activation should not
    have more than 2^22 entries, nor the params of all passes together.
    """
    widths = [
        math.prod(tensor.shape[1:])
        for op in getattr(model, "operations", None) or getattr(model, "layers", [])
        for node in op._inbound_nodes
        for tensor in node.outputs
        if None not in tensor.shape[1:]
    ]
    if not widths:
        return _ROWS_OF_UNKNOWN_MODELS
    rows = _ENTRIES // max(1, *widths, samples * params_size)
    return max(1, min(_MOST_ROWS, rows))
