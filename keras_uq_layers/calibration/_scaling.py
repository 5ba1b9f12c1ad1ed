"""The layers that map logits to calibrated logits, and are fitted after training."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import KerasTensor
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import to_array
from keras_uq_layers.families._classes import log_complement
from keras_uq_layers.families._classes import log_probability
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.prediction.uncertainty import labels


class LogitScaling(keras.layers.Layer):
    """Abstract: a layer from logits to logits, or from probabilities to such.

    A subclass gives `build`, `scaled` and `fit`. Its weights are not trainable.
    """

    def __init__(self, from_logits: bool, **kwargs: Any) -> None:
        # Half precision would round the logits before they are calibrated.
        super().__init__(autocast=False, **kwargs)
        self.from_logits = arguments.boolean("from_logits", from_logits)
        self.supports_masking = True

    def scaled(self, logits: Tensor) -> Tensor:
        """Calibrated logits of logits `(..., K)`."""
        raise NotImplementedError

    def call(self, inputs: Tensor) -> Tensor:
        family = self._family_of(inputs)
        output = ops.cast(inputs, self._output_dtype)
        if self.from_logits:
            output = self.scaled(output)
        elif inputs.shape[-1] == 1:
            output = ops.sigmoid(self.scaled(_logit(output)))
        else:
            output = ops.softmax(self.scaled(log_probability(output)))
        return attach_family(output, family)

    def _add_constant(self, name: str, value: Any, shape: Shape = ()) -> Any:
        """A weight that no training changes."""
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=self._output_dtype,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
        )

    def _rows(self, logits: Any, y: Tensor) -> tuple[Array, Array]:
        """The arguments of `fit`, checked: logits `(N, K)` and labels `(N,)`."""
        if isinstance(logits, Moments):
            logits = self._of_prediction(logits)
        logits = to_array(logits)
        if not self.from_logits:
            logits = _to_logits(logits, self._output_dtype)
        if logits.ndim != 2 or len(logits) < 1 or not np.isfinite(logits).all():
            raise ValueError(
                "`logits` must be finite, of shape (N, K). "
                f"Received: logits of shape {logits.shape}"
            )
        if not self.built:
            self.build(logits.shape)
        return logits, labels(y, len(logits), max(2, logits.shape[1]))

    def _of_prediction(self, prediction: Moments) -> Array:
        """The params of the only pass, if they are what this layer is given."""
        if not isinstance(prediction, Prediction) or prediction.passes != 1:
            raise ValueError(
                "`logits` must be an array, such as `model.predict(x)` of a model "
                "that ends in logits: the mean of several passes has none. "
                f"Received: {type(prediction).__name__} of {prediction.passes} pass(es)"
            )
        self._check_kind(getattr(prediction.family, "from_logits", None), "logits")
        return prediction.samples[0]

    def _family_of(self, inputs: Tensor) -> families.Family:
        """The family of the head before this layer, else that of its classes."""
        known = attached_family(inputs)
        if _keras.is_probability(inputs):
            self._check_kind(False, "inputs")
        if known is not None:
            self._check_kind(getattr(known, "from_logits", None), "inputs")
            return known
        one = inputs.shape[-1] == 1
        kind = families.Bernoulli if one else families.Categorical
        return kind(from_logits=self.from_logits)

    def _check_kind(self, from_logits: bool | None, name: str) -> None:
        if from_logits != self.from_logits:
            wanted = "logits" if self.from_logits else "probabilities"
            kinds = {True: "logits", False: "probabilities", None: "other params"}
            raise ValueError(
                f"`{name}` must be {wanted} where `from_logits={self.from_logits}`. "
                f"Received: {kinds[from_logits]}"
            )

    @property
    def _output_dtype(self) -> str:
        return at_least_float32(self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        output = KerasTensor(inputs.shape, dtype=self._output_dtype)
        return attach_family(output, self._family_of(inputs))

    def get_config(self) -> Config:
        return {**super().get_config(), "from_logits": self.from_logits}


def _to_logits(p: Array, dtype: str) -> Array:
    """Logits of probabilities `(N, K)`, checked; `log(p)` is one choice of them.

    In the dtype of the layer: the logarithm of 0 depends on it.
    """
    if not ((p >= 0) & (p <= 1.0 + 1e-3)).all():
        raise ValueError(
            "`logits` must hold probabilities for `from_logits=False`. Received: "
            f"numbers from {np.min(p):g} to {np.max(p):g}"
        )
    tensor = ops.convert_to_tensor(p, dtype=dtype)
    return to_array(_logit(tensor) if p.shape[-1] == 1 else log_probability(tensor))


def _logit(p: Tensor) -> Tensor:
    return log_probability(p) - log_complement(p)


Evaluation = tuple[float, Array, Array]
_ITERATIONS, _FLAT = 30, 1e-10


def minimize(evaluate: Callable[[Array], Evaluation], start: Array) -> Array:
    """The minimum of a convex function, by Newton's method with halved steps.

    Args:
        evaluate: From a point `(m,)` to the value, the gradient `(m,)` and the
            Hessian `(m, m)`, which may be singular.
        start: Point `(m,)`.

    Raises:
        ValueError: There is no minimum, as where classes are separated: the
            value falls for ever, and becomes flat.
    """
    point = start
    value, gradient, hessian = evaluate(point)
    for _ in range(_ITERATIONS):
        # Least squares: a shift of all biases changes nothing.
        step = -np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0]
        if -gradient @ step < 1e-16:
            if np.diag(hessian).min() < _FLAT:
                break
            return point
        while (after := evaluate(point + step))[0] > value + 1e-14:
            step = 0.5 * step
        point = point + step
        value, gradient, hessian = after
    raise ValueError(
        "`y` must be predicted by `logits` with some mistakes in each class: there is "
        "no best scaling for these rows. Received: labels that are separated by the "
        "logits, or classes without a label"
    )


def logistic(features: Array, y: Array) -> Callable[[Array], Evaluation]:
    """The mean negative log likelihood of `y` in (0, 1), for `minimize`.

    Args:
        features: Array `(N, m)`: the logit is their product with the point.
        y: Array `(N,)` of zeros and ones.
    """

    def evaluate(point: Array) -> Evaluation:
        z = features @ point
        p = np.exp(-np.logaddexp(0.0, -z))
        loss = np.mean(np.logaddexp(0.0, z) - y * z)
        weighted = features * (p * (1.0 - p))[:, None]
        rows = len(y)
        return float(loss), features.T @ (p - y) / rows, weighted.T @ features / rows

    return evaluate
