from typing import Any
from typing import Self

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
from keras_uq_layers.registration import register

_RANGE = 1e4


@register("TemperatureScaling")
class TemperatureScaling(keras.layers.Layer):
    """Divides logits by one temperature, which is fitted after training.

    ```
    output = logits / temperature
    output = softmax(log(probabilities) / temperature)     from_logits=False
    ```

    Put it after the last layer of a trained classifier, call `fit` with the
    logits and labels of data that the model was not trained on, and save the
    model: the temperature is a weight that no training changes. For a model
    that ends in a softmax or a sigmoid, and for probabilities of any other
    library, say `from_logits=False`. Probabilities of exactly 0, such as shares
    of the trees of a forest, need a floor first: the temperature rests on how
    small they are. A temperature
    above 1 makes the probabilities less extreme; the most likely class stays
    the same. The guarantee: no other temperature has a smaller negative log
    likelihood on the calibration set.

    Args:
        temperature: Temperature before `fit`, a positive float. The config of
            a fitted layer holds the fitted temperature.
        from_logits: Whether inputs and outputs are logits; if not, both are
            probabilities.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of logits, or of probabilities.

    Input shape:
        `(batch, ..., K)`; with `K = 1` the second of two classes.

    Output shape:
        The same; float32 or wider, also under a mixed policy.

    Raises:
        ValueError: `temperature` is not a positive finite number, `from_logits`
            is not a boolean, or the inputs are known to be of the other kind.

    Example:

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> # Three of four are right, not 98 %.
    >>> layer = uq.TemperatureScaling().fit(logits, [0, 0, 0, 1])
    >>> [round(float(p), 2) for p in ops.softmax(layer(logits[:1]))[0]]
    [0.75, 0.25]

    References:
        Guo et al., 2017, "On Calibration of Modern Neural Networks", ICML,
        arXiv:1706.04599.
    """

    def __init__(
        self, temperature: float = 1.0, from_logits: bool = True, **kwargs: Any
    ) -> None:
        # Half precision would round the logits before they are calibrated.
        super().__init__(autocast=False, **kwargs)
        self.initial_temperature = arguments.positive_float("temperature", temperature)
        self.from_logits = arguments.boolean("from_logits", from_logits)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.temperature = self.add_weight(
            name="temperature",
            shape=(),
            dtype=self._output_dtype,
            initializer=keras.initializers.Constant(self.initial_temperature),
            trainable=False,
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        family = self._family_of(inputs)
        output = ops.cast(inputs, self._output_dtype)
        if self.from_logits:
            output = output / self.temperature
        elif inputs.shape[-1] == 1:
            output = ops.sigmoid(_logit(output) / self.temperature)
        else:
            output = ops.softmax(log_probability(output) / self.temperature)
        return attach_family(output, family)

    def fit(self, logits: Tensor | Prediction, y: Tensor) -> Self:
        """Sets the temperature of highest likelihood.

        Args:
            logits: Array `(N, K)`, the input of this layer: logits, with
                `from_logits=False` probabilities. Or what `uq.predict` returns
                for a classifier that is not random.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 on.

        Returns:
            The layer itself.

        Raises:
            ValueError: Labels out of range, shapes that do not agree, or no
                best temperature. There is none where all labels are the most
                likely class (the best would be 0), or where the logits
                predict the labels no better than chance (infinity).
        """
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
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        y = labels(y, *logits.shape)
        logits = logits - logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(y)), y]

        def slope(inverse: float) -> float:
            """Derivative of the loss, which is convex in 1 / temperature."""
            weights = np.exp(inverse * logits)
            weights /= weights.sum(axis=1, keepdims=True)
            return float(np.mean((weights * logits).sum(axis=1) - chosen))

        low, high = 1.0 / _RANGE, _RANGE
        if not slope(low) < 0 < slope(high):
            raise ValueError(
                "`y` must be predicted by `logits` better than by chance, and not "
                "without a mistake: there is no best temperature between "
                f"{1 / _RANGE:g} and {_RANGE:g}. Received: "
                f"{np.count_nonzero(chosen == 0)} of {len(y)} labels are the most "
                "likely class"
            )
        for _ in range(200):
            middle = np.sqrt(low * high)
            low, high = (low, middle) if slope(middle) > 0 else (middle, high)
        self.temperature.assign(1.0 / np.sqrt(low * high))
        return self

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
        now = self.temperature if self.built else self.initial_temperature
        return {
            **super().get_config(),
            "temperature": float(now),
            "from_logits": self.from_logits,
        }


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
