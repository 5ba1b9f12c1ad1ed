from typing import Any
from typing import Self

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._scaling import Evaluation
from keras_uq_layers.calibration._scaling import LogitScaling
from keras_uq_layers.calibration._scaling import logistic
from keras_uq_layers.calibration._scaling import minimize
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register


@register("VectorScaling")
class VectorScaling(LogitScaling):
    """Multiplies the logit of each class by a number, and adds another one.

    ```
    output = scale * logits + bias            one scale and one bias for each class
    output = softmax(scale * log(probabilities) + bias)         from_logits=False
    ```

    Like `TemperatureScaling`, for a model that is too sure of some classes and not
    of others, or whose classes are not as frequent as they were in training. It
    has `2 K` numbers for `K` classes, where the temperature is one, and needs more
    held-out rows: some tens for each class. The most likely class may change. Of
    one logit it is Platt scaling. The logarithms of probabilities are not the
    logits that they were made of, and have other scales.

    Put it after the last layer of a trained classifier, call `fit` with the logits
    and labels of data that the model was not trained on, and save the model. The
    guarantee: no other scales and biases have a smaller negative log likelihood on
    the calibration set.

    Args:
        scale: Scales before `fit`: a number for each class, or None: 1. The config
            of a fitted layer holds the fitted scales.
        bias: Biases before `fit`: a number for each class, or None: 0.
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
        ValueError: `scale` or `bias` are not finite numbers, one for each class,
            `from_logits` is not a boolean, or the inputs are known to be of the
            other kind.

    Example:

    >>> logits = np.array([[2.0, 0.0]] * 4 + [[0.0, 2.0]] * 4)
    >>> # The first class is right in 2 of 4 cases, the second in 3 of 4.
    >>> layer = uq.VectorScaling().fit(logits, [0, 0, 1, 1, 1, 1, 1, 0])
    >>> [round(float(p), 2) for p in ops.softmax(layer(logits))[0]]
    [0.5, 0.5]

    References:
        Guo et al., 2017, "On Calibration of Modern Neural Networks", ICML,
        arXiv:1706.04599. Platt, 1999, "Probabilistic Outputs for Support Vector
        Machines", Advances in Large Margin Classifiers.
    """

    def __init__(
        self,
        scale: Floats | None = None,
        bias: Floats | None = None,
        from_logits: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(from_logits, **kwargs)
        self.initial = {
            "scale": _numbers("scale", scale),
            "bias": _numbers("bias", bias),
        }

    def build(self, input_shape: Shape) -> None:
        for name, values in self.initial.items():
            if values is not None and len(values) != input_shape[-1]:
                rule = f"one number for each of the {input_shape[-1]} output(s)"
                raise arguments.error(name, rule, values)
        scale, bias = self.initial.values()
        shape = input_shape[-1:]
        self.scale = self._add_constant("scale", scale or 1.0, shape)
        self.bias = self._add_constant("bias", bias or 0.0, shape)

    def scaled(self, logits: Tensor) -> Tensor:
        return self.scale * logits + self.bias

    def fit(self, logits: Tensor | Prediction, y: Tensor) -> Self:
        """Sets the scales and biases of highest likelihood.

        Args:
            logits: Array `(N, K)`, the input of this layer: logits, with
                `from_logits=False` probabilities. Or what `uq.predict` returns
                for a classifier that is not random.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 on.

        Returns:
            The layer itself.

        Raises:
            ValueError: Labels out of range, shapes that do not agree, or no best
                scales. There are none where a class has no label, or where the
                scaled logits would predict the labels of a class without a mistake.
        """
        z, y = self._rows(logits, y)
        classes = z.shape[1]
        start = np.repeat([1.0, 0.0], classes)
        if classes == 1:
            features = np.concatenate([z, np.ones_like(z)], axis=1)
            found = minimize(logistic(features, y), start)
        else:
            found = minimize(lambda point: _negative_log_likelihood(point, z, y), start)
        self.scale.assign(found[:classes])
        self.bias.assign(found[classes:])
        return self

    def get_config(self) -> Config:
        state = self.initial
        if self.built:
            weights = {"scale": self.scale, "bias": self.bias}
            state = {
                name: ops.convert_to_numpy(value).tolist()
                for name, value in weights.items()
            }
        return {**super().get_config(), **state}


def _numbers(name: str, values: Any) -> list[float] | None:
    if values is None:
        return None
    found = np.asarray(values, dtype="float64")
    if found.ndim != 1 or not np.isfinite(found).all():
        raise arguments.error(name, "a finite number for each class", values)
    return found.tolist()


def _negative_log_likelihood(point: Array, z: Array, y: Array) -> Evaluation:
    """Mean loss of `scale * z + bias`, its gradient and its Hessian."""
    rows, classes = z.shape
    scaled = point[:classes] * z + point[classes:]
    scaled -= scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled).sum(axis=1))
    loss = np.mean(total - scaled[np.arange(rows), y])
    p = np.exp(scaled - total[:, None])
    residual = p - np.eye(classes)[y]
    both = z, np.ones_like(z)  # the features of the scales and of the biases
    gradient = np.concatenate([(residual * x).mean(axis=0) for x in both])
    hessian = [
        [np.diag((p * a * b).mean(axis=0)) - (p * a).T @ (p * b) / rows for b in both]
        for a in both
    ]
    return float(loss), gradient, np.block(hessian)
