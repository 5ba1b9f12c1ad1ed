"""One batch through one model, and what the checks need of it, lazily."""

import contextlib
import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers.doctor.gradients import to_numpy
from keras_uq_layers.doctor.gradients import value_and_gradients
from keras_uq_layers.doctor.recorder import recording
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family

# Half precision gradients underflow without it, as optimizers know.
_LOSS_SCALE = 1024.0


@dataclass
class AddedLoss:
    """A term of the loss that a layer added; `weights`: it is a regularizer."""

    path: str
    layer: keras.layers.Layer | None
    value: float
    weights: bool = False
    regularizer: object = None


class Context:
    """What the checks see. All of it leaves the model as it was.

    Everything runs eagerly and inside of a `StatelessScope`, where nothing is
    assigned to a variable: not by batch normalization, not by a seed
    generator, not by a metric.
    """

    def __init__(self, model, x, y, loss, sample_weight, training_size, validation):
        self.model = model
        self.x, self.y, self.sample_weight = map(
            _tensors, first_batch(x, y, sample_weight)
        )
        self.training_size = training_size
        self.validation = validation
        self._build()
        self._noted = None
        self.compile_loss = self._fresh_loss(loss)
        self.gradient_error = None

    def _build(self):
        if self.model.built and all(v.value is not None for v in self.model.variables):
            return
        # As `fit` does; a pass moves seeds, so that they are put back.
        with unchanged_seeds(self.model):
            self.call(training=False)

    def _fresh_loss(self, loss):
        """Not that of the model: it has metrics in it, which would change."""
        weights = None
        if loss is None:
            loss, weights = _keras.user_loss(self.model)
        if loss is None:
            return None
        names = getattr(self.model, "output_names", None)
        return _keras.make_compile_loss(loss, weights, names, self._note)

    def _note(self, loss, y_true, y_pred):
        if self._noted is not None:
            self._noted.append((loss, y_true, y_pred))

    @functools.cached_property
    def validation_tensors(self):
        x, y = (
            self.validation
            if isinstance(self.validation, tuple)
            else (self.validation, None)
        )
        return tuple(map(_tensors, first_batch(x, y)[:2]))

    # Passes

    def call(self, training, x=None):
        x = self.x if x is None else x
        if _keras.takes_training(self.model):
            return self.model(x, training=training)
        return self.model(x)

    def passed(self, training, draw=None, x=None):
        """Outputs of one pass, as NumPy; each `draw` has other random numbers."""
        with self._scope(draw=draw):
            return tree.map_structure(to_numpy, self.call(training, x))

    def call_layer(self, call, args, draw=0):
        """The output of a layer that is called again with other inputs."""
        with self._scope(draw=draw):
            args = tree.map_structure(ops.convert_to_tensor, args)
            kwargs = {**call.kwargs}
            if _keras.takes_training(call.layer):
                kwargs["training"] = True
            return to_numpy(call.layer(*args, **kwargs))

    def added_with(self, x, draw=None):
        """The terms that layers add in `call` for another x or draw, as floats."""
        with recording() as record, self._scope(draw=draw):
            self.call(training=True, x=x)
            return [float(np.sum(to_numpy(value))) for *_, value in record.added]

    @functools.cached_property
    def calls_again(self):
        """The calls of a second pass with the same random numbers."""
        with recording() as record, self._scope():
            self.call(training=True)
        return record.calls

    @functools.cached_property
    def drawn_at_inference(self):
        """The layers that draw random numbers with `training=False`."""
        with recording() as record, self._scope():
            self.call(training=False)
        return [layer for layer, _ in record.draws]

    def _scope(self, mapping=None, draw=None):
        """Where nothing is assigned; with the values of `mapping`, or its own."""
        if not mapping:
            # Regularizers read the values of the scope, and only those.
            mapping = [(v, v.value) for v in self.model.trainable_variables]
        mapping = [*mapping, *self._seeds(draw)]
        return keras.StatelessScope(mapping, collect_losses=True)

    def _seeds(self, draw):
        if draw is None:
            return []
        rng = np.random.default_rng(draw)
        return [
            (g.state, rng.integers(0, 2**31, tuple(g.state.shape)).astype("uint32"))
            for g in _keras.seed_generators(self.model)
        ]

    @functools.cached_property
    def _forward(self):
        """Record, outputs, loss and its parts, of one pass in training."""
        parts = {"loss": None, "data_loss": None, "added": [], "error": None}
        outputs, scope = None, self._scope()
        with recording() as record:
            try:
                with scope:
                    outputs = self.call(training=True)
                if self.compile_loss is not None:
                    # Outside of the scope: Keras makes variables here.
                    self._noted = record.losses
                    parts["data_loss"] = self._data_loss(outputs)
            except Exception as error:
                # A shape that does not fit is a finding, not a crash.
                parts["error"] = error
            self._noted = None
        if outputs is None:
            return record, outputs, parts
        with recording() as again, scope:
            parts["added"] = self._added(record)
            if parts["error"] is not None:
                return record, outputs, parts
            try:
                loss = self._total(outputs)
                parts["loss"] = None if loss is None else float(to_numpy(loss))
            except Exception as error:
                parts["error"] = error
        # Those of a model with a `compute_loss` of its own.
        record.crossentropies = record.crossentropies or again.crossentropies
        return record, outputs, parts

    def _added(self, record):
        added = [
            AddedLoss(path, layer, float(np.sum(to_numpy(value))))
            for path, layer, value in record.added
        ]
        for variable in self.model.trainable_variables:
            regularizer = variable.regularizer
            if regularizer is not None:
                value = regularizer(ops.convert_to_tensor(variable))
                value = float(np.sum(to_numpy(value)))
                owner = self.owners.get(id(variable))
                added.append(AddedLoss(variable.path, owner, value, True, regularizer))
        return added

    def _data_loss(self, outputs):
        axis = getattr(self.model, "member_axis", None)
        members = [outputs]
        if axis is not None:
            family = attached_family(outputs)
            parts = ops.unstack(outputs, axis=axis)
            members = [attach_family(part, family) for part in parts]
        values = [self.compile_loss(self.y, m, self.sample_weight) for m in members]
        return float(np.mean([to_numpy(value) for value in values]))

    def _total(self, outputs):
        """What `fit` would minimise, by the model's own `compute_loss`."""
        own = type(self.model).compute_loss is not keras.Model.compute_loss
        if self.compile_loss is None and not self.model.losses and not own:
            return None
        with _keras.compiled_with(self.model, self.compile_loss):
            return self.model.compute_loss(
                x=self.x,
                y=self.y,
                y_pred=outputs,
                sample_weight=self.sample_weight,
                training=True,
            )

    @property
    def error(self):
        """What the pass raised, of the model or its loss, or None."""
        return self._forward[2]["error"]

    @property
    def record(self):
        return self._forward[0]

    @property
    def calls(self):
        return self.record.calls

    @property
    def outputs(self):
        """Output of the model in training: tensors, or None after an error."""
        return self._forward[1]

    @property
    def loss(self):
        return self._forward[2]["loss"]

    @property
    def data_loss(self):
        """The compiled loss alone, without what layers added."""
        return self._forward[2]["data_loss"]

    @property
    def added(self):
        return self._forward[2]["added"]

    @functools.cached_property
    def layers(self):
        return _keras.all_layers(self.model)

    @functools.cached_property
    def owners(self):
        """Dict from the id of a variable to the layer that made it."""
        return {
            id(v): layer for layer in self.layers for v in _keras.own_variables(layer)
        }

    @functools.cached_property
    def rows(self):
        return int(tree.flatten(self.x)[0].shape[0])

    # Gradients

    @functools.cached_property
    def gradients(self):
        """List of (variable, gradient): an array, or None where there is none."""
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
    def output_gradients(self):
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
    def _loss_scale(self):
        half = any(layer.compute_dtype == "float16" for layer in self.layers)
        return _LOSS_SCALE if half else 1.0

    def _scaled_loss(self, mapping, shifts=None):
        opened = recording(shifts) if shifts else contextlib.nullcontext()
        with self._scope(mapping), opened:
            return self._total(self.call(training=True)) * self._loss_scale


def is_float(tensor):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def finite(array):
    array = np.asarray(array)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


@contextlib.contextmanager
def unchanged_seeds(model):
    generators = _keras.seed_generators(model)
    states = [to_numpy(g.state) for g in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.state.assign(state)


def first_batch(x, y=None, sample_weight=None):
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


def _tensors(data):
    """Tensors, floats in the default float type: what `fit` feeds."""

    def convert(array):
        if array is None or ops.is_tensor(array):
            return array
        array = np.asarray(array)
        dtype = keras.config.floatx() if array.dtype.kind == "f" else None
        if array.dtype.kind in "OSU":
            return array
        return ops.convert_to_tensor(array, dtype=dtype)

    if data is None:
        return None
    if isinstance(data, (list, tuple)) and data and np.isscalar(data[0]):
        data = np.asarray(data)
    return tree.map_structure(convert, data)
