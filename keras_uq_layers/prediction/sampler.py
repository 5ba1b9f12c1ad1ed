"""The private model behind `predict`: all passes of a model in one graph."""

import dataclasses
import functools
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.vectorized_map import vectorized_map
from keras_uq_layers.numerics.vectorized_map import vectorizes

# Rows of a batch are chosen so that the widest activation of one pass has at most
# this many entries (16 MB in float32), and the params of all passes this many
# (64 MB): each batch draws all weights again.
_ENTRIES = 2**22
_PARAMS = 2**24
_MOST_ROWS = 8192
_ROWS_OF_UNKNOWN_MODELS = 256
# So many passes run at once that no activation and no random kernel has more entries
# than this in all of them (2 MB in float32). With more, what no longer fits into the
# caches costs as much as fewer calls save.
_ENTRIES_AT_ONCE = 2**19
# Two or three at once gain nothing, and on JAX may lose a half.
_FEWEST_AT_ONCE = 4

_ATTENTION = (
    keras.layers.Attention,
    keras.layers.GroupQueryAttention,
    keras.layers.MultiHeadAttention,
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the passes of a model are run; a plain object, not seen by Keras."""

    # Of the seed generators from which a pass draws.
    seed_states: list[keras.Variable]
    # Whether the numbers drawn come from elsewhere, too.
    hidden: bool
    # The deterministic part and the rest, as graphs, or None.
    cut: tuple[keras.Model, keras.Function] | None
    # Entries of the widest activation of an example, in what is repeated, and of the
    # largest kernel that may be drawn. None where passes cannot run at once.
    sizes: tuple[int, int] | None

    def passes_at_once(self, rows: int) -> int:
        """How many passes run at once, for a batch of so many rows."""
        if self.sizes is None:
            return 1
        activation, kernel = self.sizes
        fit = _ENTRIES_AT_ONCE // max(1, rows * activation, kernel)
        return fit if fit >= _FEWEST_AT_ONCE else 1

    @property
    def random(self) -> bool:
        return self.hidden or bool(self.seed_states)


class Sampler(keras.Model):
    """Maps `x` to `samples` passes of another model, or to summaries of them.

    The passes run in one loop in the graph, on JAX and PyTorch several at once where
    they are small. In pass `s` the seed generator `g` starts from the state
    `[k(seed, s, g), 0]`. All passes run inside a `keras.StatelessScope`, so that
    nothing of the model is ever assigned.

    Args:
        model: A built Keras model with outputs `(B, ..., P * D)`, or
            `(B, M, ..., P * D)` where its `member_axis` is 1.
        samples: Number of passes.
        plan: A `Plan` of the model, from `make_plan`.
        summaries: A function for each output, in the order of `tree.flatten`,
            from params `(S, B, ..., P * D)` to a dict of tensors, `B` first.
            A batch returns their list as `outputs`, and as `unknown` the rows
            in which an input is NaN.
    """

    def __init__(
        self,
        model: keras.Model,
        samples: int,
        plan: Plan,
        summaries: Sequence[Callable[[Tensor], dict[str, Tensor]]],
    ) -> None:
        # No autocast: the model gets its inputs as they are.
        super().__init__(autocast=False, dtype="float32", name="predict")
        self.model = model
        self.samples = samples if plan.random else 1
        self.summaries = summaries
        self.plan = plan
        self.seed_states = self.add_weight(
            name="seed_states",
            shape=(self.samples, len(plan.seed_states), 2),
            dtype=plan.seed_states[0].dtype if plan.seed_states else "int32",
            initializer="zeros",
            trainable=False,
        )
        self.built = True
        # Numbers from NumPy, for example, would become constants of a graph.
        # XLA is the slower one here on a CPU; JAX has no other compiler.
        jit = keras.backend.backend() == "jax" and not plan.hidden
        self.compile(run_eagerly=plan.hidden, jit_compile=jit)

    def seed(self, seed: int) -> None:
        """Makes pass `s` a function of `(seed, s)` alone."""
        # Row by row: the first passes are the same however many there are.
        keys = np.random.default_rng(seed).integers(
            2**31 - 1, size=self.seed_states.shape[:2]
        )
        states = np.stack([keys, np.zeros_like(keys)], axis=-1)
        self.seed_states.assign(states.astype(self.seed_states.dtype))

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        plan = self.plan
        values = current_values(self.model)
        states = ops.convert_to_tensor(self.seed_states)

        def run(function, argument, state):
            with Watch([*values, *zip(plan.seed_states, state, strict=True)]):
                return function(argument)

        function, argument = self._whole, inputs
        if plan.cut is not None:
            head, tail = plan.cut
            function = functools.partial(_keras.run_graph, tail)
            argument = run(head, inputs, _rows(states[0], plan))

        def one_pass(state):
            return run(function, argument, _rows(state, plan))

        if self.samples == 1:
            outputs = [output[None] for output in one_pass(states[0])]
        elif plan.hidden:
            passes = [one_pass(states[s]) for s in range(self.samples)]
            outputs = [ops.stack(output) for output in zip(*passes, strict=True)]
        else:
            rows = tree.flatten(inputs)[0].shape[0]
            at_once = min(self.samples, plan.passes_at_once(rows))
            outputs = vectorized_map(one_pass, states, at_once)
        summed = [
            summary(_members_as_passes(self.model, output))
            for summary, output in zip(self.summaries, outputs, strict=True)
        ]
        return {"outputs": summed, "unknown": _unknown(inputs)}

    def _whole(self, inputs: Any) -> list[Tensor]:
        return tree.flatten(self.model(inputs, training=False))


class Watch(keras.StatelessScope):
    """A scope in which nothing is assigned, that notes what would have been.

    A `Dropout(0.5)(h, training=True)` in a functional model stays random.
    """

    def __init__(self, values: Iterable[tuple[keras.Variable, Tensor]]) -> None:
        super().__init__(list(values))
        self.assigned: list[keras.Variable] = []
        self._training = _keras.keeping_recorded_training()

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        self.assigned.append(update[0])
        super().add_update(update)

    def __enter__(self) -> "Watch":
        self._training.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._training.__exit__(*error)

    @property
    def seed_states(self) -> list[keras.Variable]:
        """The states of all seed generators that were drawn from, each once."""
        found = {id(v): v for v in self.assigned if v.name == "seed_generator_state"}
        return list(found.values())


def current_values(model: keras.Model) -> list[tuple[keras.Variable, Tensor]]:
    return [(v, v.value) for v in model.variables]


def make_plan(model: keras.Model, x: Any) -> tuple[Plan, Any]:
    """Finds out by two passes whether a model is random at inference, and how.

    It is if a seed generator moves in a pass, whoever owns it. If two passes
    from the same states of all seed generators differ, there are random
    numbers of which Keras does not know: of NumPy, of `tf.random`.

    Args:
        model: A built Keras model.
        x: The first rows of its inputs, as tensors.

    Returns:
        A `Plan`, and the output of a pass, in its structure.
    """
    values = current_values(model)
    outputs = []
    for _ in range(2):
        with Watch(values) as scope:
            outputs.append(model(x, training=False))
    output, again = outputs
    seed_states = scope.seed_states
    hidden = not all(map(_are_equal, tree.flatten(output), tree.flatten(again)))
    if keras.backend.backend() == "jax":
        # JAX makes numbers of the global generator constants of the graph.
        global_state = _keras.global_seed_generator().state
        hidden = hidden or any(state is global_state for state in seed_states)
    if hidden or not seed_states:
        return Plan(seed_states, hidden, cut=None, sizes=None), output
    cut = find_cut(model, seed_states)
    sizes = _sizes(model, cut[1] if cut else model, seed_states)
    plan = Plan(seed_states, hidden, cut, sizes)
    if plan.passes_at_once(rows=1) > 1 and not _run_at_once(model, x, seed_states):
        plan = dataclasses.replace(plan, sizes=None)
    return plan, output


def _sizes(
    model: keras.Model,
    repeated: keras.Model | keras.Function,
    seed_states: list[keras.Variable],
) -> tuple[int, int] | None:
    """The `sizes` of a `Plan`."""
    operations = [repeated] if repeated is model else repeated.operations
    layers = [
        layer
        for op in operations
        for layer in (_keras.all_layers(op) if isinstance(op, keras.Layer) else [op])
    ]
    if not all(map(_is_as_wide_as_it_looks, layers)):
        return None
    activations = []
    for layer in layers:
        for shape in _keras.output_shapes(layer):
            sizes = [size for size in shape[1:] if size is not None]
            if len(sizes) < len(shape[1:]):
                return None
            activations.append(math.prod(sizes))
    drawn = {id(state) for state in seed_states}
    kernels = [
        tuple(variable.shape)
        for layer in _keras.all_layers(model)
        if drawn & {id(g.state) for g in _keras.seed_generators_of(layer)}
        # Vectors are biases, or hold the scales and correlations of a posterior.
        for variable in layer.variables
        if len(variable.shape) > 1
    ]
    # Several convolutions, each with a kernel of its own, are slow in XLA.
    slow = keras.backend.backend() == "jax" and any(len(shape) > 2 for shape in kernels)
    if slow or not activations:
        return None
    return max(activations), max(map(math.prod, kernels), default=0)


def _is_as_wide_as_it_looks(layer: Any) -> bool:
    """Whether no tensor in a layer is much larger than those that it emits.

    The scores of attention are, and a layer or model of the user's that is made of
    others may hold anything.
    """
    if isinstance(layer, _ATTENTION):
        return False
    if not isinstance(layer, keras.Layer) or len(_keras.all_layers(layer)) == 1:
        return True
    if isinstance(layer, keras.Model) and _keras.is_graph_of_layers(layer):
        return True
    ours = type(layer).__module__.startswith("keras_uq_layers.")
    return ours or _keras.is_keras(layer)


def _run_at_once(model: keras.Model, x: Any, seed_states: list[keras.Variable]) -> bool:
    """Whether two passes of a model can run at once."""
    values = current_values(model)

    def one_pass(states):
        with Watch([*values, *zip(seed_states, states, strict=True)]):
            return tree.flatten(model(x, training=False))

    pairs = [ops.stack([state.value, state.value]) for state in seed_states]
    return vectorizes(one_pass, pairs)


def _are_equal(one: Any, other: Any) -> bool:
    if not ops.is_tensor(one):
        return True  # `predict` refuses such an output.
    first, second = (
        np.asarray(ops.convert_to_numpy(tensor)).astype("float64")
        for tensor in (one, other)
    )
    return np.array_equal(first, second, equal_nan=True)


def _rows(state: Tensor, plan: Plan) -> list[Tensor]:
    return [state[i] for i in range(len(plan.seed_states))]


def _members_as_passes(model: keras.Model, outputs: Tensor) -> Tensor:
    """Passes `(S, B, M, ...)` of an ensemble as `(S * M, B, ...)`."""
    if getattr(model, "member_axis", None) is None:
        return outputs
    outputs = ops.swapaxes(outputs, 1, 2)
    shape = ops.shape(outputs)
    return ops.reshape(outputs, (shape[0] * shape[1], *shape[2:]))


def _unknown(inputs: Any) -> Tensor:
    """Where an input of an example is NaN: booleans `(B,)`."""
    found = []
    for leaf in tree.flatten(inputs):
        dtype = keras.backend.standardize_dtype(leaf.dtype)
        if keras.backend.is_float_dtype(dtype):
            nan = ops.isnan(ops.convert_to_tensor(leaf, sparse=False))
            found.append(ops.any(ops.reshape(nan, (ops.shape(nan)[0], -1)), axis=1))
        else:
            found.append(ops.zeros(ops.shape(leaf)[:1], dtype="bool"))
    return functools.reduce(ops.logical_or, found)


def find_cut(
    model: keras.Model, drawn: list[keras.Variable]
) -> tuple[keras.Model, keras.Function] | None:
    """Cuts a graph of layers in front of its first random layers.

    Args:
        model: A Keras model.
        drawn: States of the seed generators that draw at inference.

    Returns:
        The deterministic part and the rest; the rest returns a list of all outputs.
        None for a subclassed model, or where the owner of a generator is not found.
    """
    if not _keras.is_graph_of_layers(model):
        return None
    inputs = _keras.symbolic_inputs(model)
    graph = keras.Function(inputs, model.outputs)
    wanted = {id(state) for state in drawn}
    owners = {
        id(op): {id(g.state) for g in _keras.own_seed_generators(op)}
        for op in graph.operations
        if isinstance(op, keras.layers.Layer)
    }
    if not wanted <= set().union(*owners.values()):
        return None
    random: set[int] = set()
    cut: dict[int, keras.KerasTensor] = {}
    for operation, arguments, results in _keras.nodes_of(graph):
        draws = bool(owners.get(id(operation), set()) & wanted)
        if draws or any(id(t) in random for t in arguments):
            random.update(id(t) for t in results)
            cut.update({id(t): t for t in arguments})
    cut.update({id(t): t for t in model.outputs})  # one may not be random
    tensors = [tensor for key, tensor in cut.items() if key not in random]
    return keras.Model(inputs, tensors), keras.Function(tensors, model.outputs)


def _operations(graph: keras.Model | keras.Function) -> list[Any]:
    return getattr(graph, "operations", None) or getattr(graph, "layers", [])


def rows_at_a_time(model: keras.Model, samples: int, params_size: int) -> int:
    """The default batch size: as large as memory and caches like.

    The loop over the passes costs about the same for few rows as for
    thousands, so that batches should be large; yet an activation should not
    have more than 2^22 entries, nor the params of all passes more than 2^24.
    """
    widths = [
        math.prod(n for n in shape[1:] if n)
        for op in _operations(model)
        for shape in _keras.output_shapes(op)
        if None not in shape[1:]
    ]
    if not widths:
        return _ROWS_OF_UNKNOWN_MODELS
    rows = min(_ENTRIES // max(widths), _PARAMS // max(1, samples * params_size))
    return max(1, min(_MOST_ROWS, rows))
