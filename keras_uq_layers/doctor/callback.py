"""The callback that diagnoses the first loss that is not finite."""

import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers.doctor.checkup import diagnose
from keras_uq_layers.doctor.findings import Diagnosis


class Doctor(keras.callbacks.Callback):
    """Stops `fit` at the first loss that is not finite, and says why.

    It keeps each batch, and a copy of the weights before that batch. When the
    loss is NaN or infinite, it stops the training. It puts weights, seeds and
    optimizer back to their values before the step that broke them, and prints
    `uq.diagnose` of the batch of that step. The copy costs time in each step:
    use the callback to look for an error, not in every training.

    It sees no NaN that does not reach the loss. On some CPUs TensorFlow fuses a
    product with "relu" and turns NaN into 0. `uq.diagnose` looks at the data.

    The last epoch ends before the weights are put back: its validation, and
    `on_epoch_end` of other callbacks, see the broken model.

    Args:
        verbose: Whether to print the diagnosis.

    Attributes:
        diagnosis: The `uq.Diagnosis` of the batch, or None while all is well.
        batch: That batch, `(x, y, sample_weight)`.

    Raises:
        ValueError: The model runs several steps in one execution
            (`steps_per_execution` in `compile`).

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile("sgd", loss="mse")
    >>> x, y = np.ones((8, 1)), np.ones(8)
    >>> x[5] = np.nan
    >>> doctor = uq.callbacks.Doctor(verbose=False)
    >>> history = model.fit(x, y, batch_size=4, verbose=0, callbacks=[doctor])
    >>> doctor.diagnosis.problems[0].code
    'data-not-finite'
    >>> bool(np.isfinite(model.get_weights()[0]).all())
    True
    """

    def __init__(self, verbose: bool = True) -> None:
        super().__init__()
        self.verbose = arguments.boolean("verbose", verbose)
        self.diagnosis: Diagnosis | None = None
        self.batch: tuple | None = None
        self._steps: list[tuple[Any, list[list[Array]]]] = []
        self._found = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.model.steps_per_execution != 1:
            raise ValueError(
                "`steps_per_execution` must be 1 for `Doctor`, which looks at every "
                f"step. Received: steps_per_execution={self.model.steps_per_execution}"
            )
        self.diagnosis, self.batch = None, None
        self._steps, self._found = [], False
        self._train_function = self.model.train_function
        self.model.train_function = self._observed

    def _observed(self, *args: Any) -> Any:
        *state, data = args
        # An iterator on TensorFlow, a list of batches elsewhere.
        batches = list(itertools.islice(data, 1)) if hasattr(data, "__next__") else data
        if not batches:
            raise StopIteration
        # Two steps are kept: the step that breaks the weights has a finite loss.
        self._steps = [*self._steps[-1:], (batches[0], self._values(*state))]
        if batches is not data:
            batches = iter(batches)
        try:
            return self._train_function(*state, batches)
        except BaseException:
            # `fit` ends here, without `on_train_end`.
            self.model.train_function = self._train_function
            raise

    def _variables(self) -> list[list[keras.Variable]]:
        model = self.model
        return [
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
        ]

    def _values(self, state: Any = None) -> list[list[Array]]:
        # On JAX the values travel as the state, and the variables are empty.
        groups = self._variables() if state is None else state[:3]
        return [[np.array(ops.convert_to_numpy(v)) for v in group] for group in groups]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            self._found = True
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        self.model.train_function = self._train_function
        if self._found:
            self._explain()
        self._steps = []

    def _explain(self) -> None:
        finite = [
            all(np.isfinite(value).all() for value in values[0])
            for _, values in self._steps
        ]
        batch, values = self._steps[-1 if finite[-1] else 0]
        for group, before in zip(self._variables(), values, strict=True):
            for variable, value in zip(group, before, strict=True):
                variable.assign(value)
        self.batch = keras.utils.unpack_x_y_sample_weight(batch)
        x, y, sample_weight = self.batch
        self.diagnosis = diagnose(self.model, x, y, sample_weight=sample_weight)
        if self.verbose:
            print(self.diagnosis)
