from typing import Any
from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._scaling import LogitScaling
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register

_RANGE = 1e4


@register("TemperatureScaling")
class TemperatureScaling(LogitScaling):
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
        super().__init__(from_logits, **kwargs)
        self.initial_temperature = arguments.positive_float("temperature", temperature)

    def build(self, input_shape: Shape) -> None:
        self.temperature = self._add_constant("temperature", self.initial_temperature)

    def scaled(self, logits: Tensor) -> Tensor:
        return logits / self.temperature

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
        z, y = self._rows(logits, y)
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        z = z - z.max(axis=1, keepdims=True)
        chosen = z[np.arange(len(y)), y]

        def slope(inverse: float) -> float:
            """Derivative of the loss, which is convex in 1 / temperature."""
            weights = np.exp(inverse * z)
            weights /= weights.sum(axis=1, keepdims=True)
            return float(np.mean((weights * z).sum(axis=1) - chosen))

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

    def get_config(self) -> Config:
        now = self.temperature if self.built else self.initial_temperature
        return {**super().get_config(), "temperature": float(now)}
