"""One watched pass of one batch through one model, and further passes on demand."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.doctor.recorder import Call
from keras_uq_layers.doctor.recorder import Record
from keras_uq_layers.doctor.recorder import recording
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.testing._gradients import value_and_gradients

# Gradients in half precision underflow without it. Optimizers do the same.
_LOSS_SCALE = 1024.0


@dataclass
class AddedLoss:
    """A term of the loss that a layer added.

    `of_weights` says that it is a regularizer of a weight, `regularizer`.
    """

    path: str
    layer: Any  # None: unknown
    value: float
    of_weights: bool = False
    regularizer: Any = None


class Context:
    """What the checks look at. Nothing in it changes the model.

    Everything runs eagerly and inside of a `StatelessScope`. Nothing is
    assigned to a variable there: not by batch normalization, not by a seed
    generator, not by a metric.

    Attributes:
        record: The `Record` of a pass in training.
        outputs: Its outputs, tensors; None where the model raised an error.
        added: The terms that layers added to the loss.
        has_loss: Whether there is a compiled loss, be it one that raises an error.
        data_loss: The compiled loss alone, or None.
        loss: All that `fit` would minimise, or None.
        error: The error that the model or its loss raised, or None.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        loss: Any = None,
        sample_weight: Any = None,
        training_size: int | None = None,
        validation: Any = None,
    ) -> None:
        self.model = model
        self.x, self.y, self.sample_weight = map(
            _tensors, first_batch(x, y, sample_weight)
        )
        self.training_size = training_size
        self.validation = validation
        self.gradient_error: Exception | None = None
        self._build()
        self._notes: list | None = None
        self._loss = self._fresh_loss(loss)
        self.record = Record()
        self.outputs: Any = None
        self.added: list[AddedLoss] = []
        self.data_loss: float | None = None
        self.loss: float | None = None
        self.error: Exception | None = None
        try:
            self._forward()
        except Exception as error:
            # A shape that does not fit is a finding, not a crash.
            self.error = error

    @property
    def has_loss(self) -> bool:
        return self._loss is not None

    def _build(self) -> None:
        if self.model.built and all(v.value is not None for v in self.model.variables):
            return
        # `fit` builds in the same way. The pass draws from the seed generators.
        with _unchanged_seeds(self.model):
            self.call(training=False)

    def _fresh_loss(self, loss: Any) -> Any:
        """A copy of the compiled loss: the one of the model keeps metrics."""
        weights = None
        if loss is None:
            loss, weights = _keras.user_loss(self.model)
        if loss is None:
            return None
        names = getattr(self.model, "output_names", None)
        return _keras.make_compile_loss(loss, weights, names, self._note)

    def _note(self, loss: Any, y_true: Tensor, y_pred: Tensor) -> None:
        if self._notes is not None:
            self._notes.append((loss, y_true, y_pred))

    def _forward(self) -> None:
        scope = self._scope()
        with recording() as self.record:
            with scope:
                self.outputs = self.call(training=True)
            self.added = self._added(self.record)
            if self._loss is not None:
                self._notes = self.record.losses
                # Outside of the scope: Keras makes variables here.
                try:
                    self.data_loss = self._data_loss()
                finally:
                    self._notes = None
        with recording() as again, scope:
            loss = self._total(self.outputs)
        self.loss = None if loss is None else float(to_numpy(loss))
        # A model may call a cross entropy in a `compute_loss` of its own.
        self.record.crossentropies = self.record.crossentropies or again.crossentropies

    def _added(self, record: Record) -> list[AddedLoss]:
        added = [
            AddedLoss(path, layer, float(np.sum(to_numpy(value))))
            for path, layer, value in record.added
        ]
        for variable in self.model.trainable_variables:
            regularizer = variable.regularizer
            if regularizer is not None:
                with self._scope():
                    value = regularizer(ops.convert_to_tensor(variable))
                value = float(np.sum(to_numpy(value)))
                owner = self.owners.get(id(variable))
                added.append(AddedLoss(variable.path, owner, value, True, regularizer))
        return added

    def _data_loss(self) -> float:
        members = [self.outputs]
        if self.member_axis is not None:
            family = attached_family(self.outputs)
            parts = ops.unstack(self.outputs, axis=self.member_axis)
            members = [attach_family(part, family) for part in parts]
        losses = [self._loss(self.y, m, self.sample_weight) for m in members]
        return float(np.mean([to_numpy(loss) for loss in losses]))

    def _total(self, outputs: Any) -> Any:
        """What `fit` would minimise, by the model's own `compute_loss`."""
        own = type(self.model).compute_loss is not keras.Model.compute_loss
        if self._loss is None and not self.model.losses and not own:
            return None
        with _keras.compiled_with(self.model, self._loss):
            return self.model.compute_loss(
                x=self.x,
                y=self.y,
                y_pred=outputs,
                sample_weight=self.sample_weight,
                training=True,
            )

    # Further passes

    def call(self, training: bool, x: Any = None) -> Any:
        """Calls the model, in training or not, on its batch or another one.

        As in `uq.predict`, a layer called with `training=True` stays random.
        """
        x = self.x if x is None else x
        with _keras.keeping_recorded_training():
            if _keras.takes_training(self.model):
                return self.model(x, training=training)
            return self.model(x)

    def passed(self, training: bool, draw: int | None = None, x: Any = None) -> Any:
        """Outputs of one pass, as NumPy. Each `draw` has other random numbers."""
        with self._scope(draw=draw):
            return tree.map_structure(to_numpy, self.call(training, x))

    def call_layer(self, call: Call, args: Any, draw: int = 0) -> Array:
        """The output of a layer that is called again with other inputs."""
        with self._scope(draw=draw):
            args = tree.map_structure(
                lambda a: ops.convert_to_tensor(a, keras.config.floatx()), args
            )
            kwargs = {**call.kwargs}
            if _keras.takes_training(call.layer):
                kwargs["training"] = True
            return to_numpy(call.layer(*args, **kwargs))

    def added_with(self, x: Any, draw: int | None = None) -> list[float]:
        """The terms that layers add in `call` for another x or draw."""
        with recording() as record, self._scope(draw=draw):
            self.call(training=True, x=x)
            return [float(np.sum(to_numpy(value))) for *_, value in record.added]

    @functools.cached_property
    def calls_again(self) -> list[Call]:
        """The calls of a second pass with the same random numbers."""
        with recording() as record, self._scope():
            self.call(training=True)
        return record.calls

    @functools.cached_property
    def drawn_at_inference(self) -> list[keras.layers.Layer]:
        """The layers that draw random numbers with `training=False`."""
        with recording() as record, self._scope():
            self.call(training=False)
        return [layer for layer, _ in record.draws]

    def _scope(
        self, mapping: list | None = None, draw: int | None = None
    ) -> keras.StatelessScope:
        """A scope without assignments, with the values of `mapping`."""
        if not mapping:
            # Regularizers see no values but those of the scope.
            mapping = [(v, v.value) for v in self.model.trainable_variables]
        mapping = [*mapping, *self._seeds(draw)]
        return keras.StatelessScope(mapping, collect_losses=True)

    def _seeds(self, draw: int | None) -> list[tuple[keras.Variable, Array]]:
        if draw is None:
            return []
        rng = np.random.default_rng(draw)
        return [
            (g.state, rng.integers(0, 2**31, tuple(g.state.shape)).astype("uint32"))
            for g in _keras.seed_generators(self.model)
        ]

    # Properties of the model and the batch

    @property
    def calls(self) -> list[Call]:
        return self.record.calls

    @property
    def member_axis(self) -> int | None:
        """The axis of the members in the output of an `uq.Ensemble`, or None."""
        return getattr(self.model, "member_axis", None)

    @functools.cached_property
    def layers(self) -> list[keras.layers.Layer]:
        return _keras.all_layers(self.model)

    @functools.cached_property
    def owners(self) -> dict[int, keras.layers.Layer]:
        """Dict from the id of a variable to the layer that made it."""
        return {
            id(v): layer for layer in self.layers for v in _keras.own_variables(layer)
        }

    @functools.cached_property
    def rows(self) -> int:
        return int(tree.flatten(self.x)[0].shape[0])

    @functools.cached_property
    def validation_tensors(self) -> tuple[Any, Any]:
        """x and y of the validation data, or of its first batch."""
        given = self.validation
        x, y = given if isinstance(given, (list, tuple)) else first_batch(given)[:2]
        return _tensors(x), _tensors(y)

    # Gradients

    @functools.cached_property
    def gradients(self) -> list[tuple[keras.Variable, Array | None]]:
        """Pairs of a variable and its gradient: None where there is none."""
        variables = self.model.trainable_variables
        if self.error or self.loss is None or not variables:
            return []
        try:
            _, found = value_and_gradients(
                lambda values: self._scaled_loss(
                    list(zip(variables, values, strict=True))
                ),
                [ops.convert_to_tensor(v.value) for v in variables],
            )
        except Exception as error:
            # JAX traces for a gradient: a float of a tensor fails only here.
            self.gradient_error = error
            return []
        found = [None if g is None else g / self._loss_scale for g in found]
        return list(zip(variables, found, strict=True))

    @functools.cached_property
    def output_gradients(self) -> dict[int, Array | None]:
        """Dict from the number of a call to the gradient of its output.

        For layers without layers inside, whose output is one float tensor.
        """
        numbers = [
            i
            for i, call in enumerate(self.calls)
            if call.leaf and ops.is_tensor(call.outputs) and is_float(call.outputs)
        ]
        _, found = value_and_gradients(
            lambda zeros: self._scaled_loss([], dict(zip(numbers, zeros, strict=True))),
            [ops.zeros_like(self.calls[i].outputs) for i in numbers],
        )
        return dict(zip(numbers, found, strict=True))

    @functools.cached_property
    def _loss_scale(self) -> float:
        half = any(layer.compute_dtype == "float16" for layer in self.layers)
        return _LOSS_SCALE if half else 1.0

    def _scaled_loss(self, mapping: list, shifts: dict | None = None) -> Tensor:
        opened = recording(shifts) if shifts else contextlib.nullcontext()
        with self._scope(mapping), opened:
            return self._total(self.call(training=True)) * self._loss_scale


def is_float(tensor: Tensor) -> bool:
    """Whether a tensor holds floats."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def floats_in(structure: Any) -> list[Array]:
    """The float tensors in a nested structure, as NumPy arrays."""
    return [
        to_numpy(t) for t in tree.flatten(structure) if ops.is_tensor(t) and is_float(t)
    ]


def finite(array: Array) -> bool:
    """Whether all values are finite."""
    return bool(np.isfinite(array).all())


def shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor, as a tuple."""
    return tuple(ops.shape(tensor))


def first_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple:
    """The first batch of a dataset, or the arrays that were given.

    Args:
        x: Arrays; or a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch
            `DataLoader` or a generator of batches.
        y: Targets, or None.
        sample_weight: Weights, or None.

    Returns:
        Tuple `(x, y, sample_weight)`.

    Raises:
        ValueError: A dataset, and targets beside it; or a dataset without a
            batch.
    """
    if hasattr(x, "shape") or isinstance(x, (list, tuple, dict)):
        return x, y, sample_weight
    if y is not None or sample_weight is not None:
        raise ValueError(
            "`y` and `sample_weight` must be None where x is a dataset: its batches "
            f"hold them. Received: x of type {type(x).__name__}"
        )
    if isinstance(x, keras.utils.PyDataset):
        return keras.utils.unpack_x_y_sample_weight(x[0])
    for batch in x:
        return keras.utils.unpack_x_y_sample_weight(batch)
    raise arguments.error("x", "arrays, or a dataset with at least one batch", x)


@contextlib.contextmanager
def _unchanged_seeds(model: keras.Model) -> Iterator[None]:
    generators = _keras.seed_generators(model)
    states = [ops.convert_to_numpy(g.state) for g in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.state.assign(state)


def _tensors(data: Any) -> Any:
    """Tensors, floats in the default float type, as `fit` makes them."""

    def convert(array: Any) -> Any:
        if array is None or ops.is_tensor(array):
            return array
        array = np.asarray(array)
        if array.dtype.kind in "OSU":
            return array
        dtype = keras.config.floatx() if array.dtype.kind == "f" else None
        return ops.convert_to_tensor(array, dtype=dtype)

    if data is None:
        return None
    if isinstance(data, (list, tuple)) and data and np.isscalar(data[0]):
        data = np.asarray(data)
    return tree.map_structure(convert, data)
