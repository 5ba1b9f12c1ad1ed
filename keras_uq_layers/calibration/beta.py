import itertools
from typing import Any
from typing import Self

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._scaling import LogitScaling
from keras_uq_layers.calibration._scaling import logistic
from keras_uq_layers.calibration._scaling import minimize
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register


@register("BetaCalibration")
class BetaCalibration(LogitScaling):
    """Bends the probability of a yes by a curve with three parameters.

    ```
    logit(output) = a log(p) - b log(1 - p) + c,   a, b >= 0
    ```

    For a classifier of two classes with one output. `a = b` is Platt scaling, and
    `a = b, c = 0` a temperature. With `a` other than `b`, probabilities close to 0
    and close to 1 are corrected by different amounts, as models need whose errors
    are not symmetric: boosted trees, naive Bayes, networks of rare events. The
    curve increases, so that the order of the examples stays. `a = b = 1`, `c = 0`
    changes nothing.

    Put it after the last layer of a trained classifier, call `fit` with the logits
    and labels of data that the model was not trained on, and save the model. The
    guarantee: no other `a`, `b` and `c` have a smaller negative log likelihood on
    the calibration set.

    Args:
        a: Weight of `log(p)` before `fit`, from 0 on. The config of a fitted layer
            holds the fitted one.
        b: Weight of `-log(1 - p)` before `fit`, from 0 on.
        c: Offset before `fit`.
        from_logits: Whether inputs and outputs are logits; if not, both are
            probabilities.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of logits, or of probabilities.

    Input shape:
        `(batch, ..., 1)`.

    Output shape:
        The same; float32 or wider, also under a mixed policy.

    Raises:
        ValueError: `a` or `b` is negative, a number is not finite, `from_logits` is
            not a boolean, or the inputs are of the other kind or have more than
            one output.

    Example:

    >>> p = np.array([[0.9]] * 4 + [[0.2]] * 4)
    >>> # Yes in 3 of 4 cases, and in 1 of 4.
    >>> layer = uq.BetaCalibration(from_logits=False)
    >>> layer = layer.fit(p, [1, 1, 1, 0, 0, 0, 0, 1])
    >>> [round(float(p), 2) for p in layer(p)[::4, 0]]
    [0.75, 0.25]

    References:
        Kull, Silva Filho & Flach, 2017, "Beta Calibration: a Well-Founded and
        Easily Implemented Improvement on Logistic Calibration for Binary
        Classifiers", AISTATS.
    """

    def __init__(
        self,
        a: float = 1.0,
        b: float = 1.0,
        c: float = 0.0,
        from_logits: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(from_logits, **kwargs)
        if not np.isfinite(c):
            raise arguments.error("c", "a finite number", c)
        self.initial = {
            "a": arguments.non_negative_float("a", a),
            "b": arguments.non_negative_float("b", b),
            "c": float(c),
        }

    def build(self, input_shape: Shape) -> None:
        if input_shape[-1] != 1:
            raise ValueError(
                "`inputs` must have one output, the logit or the probability of a yes. "
                f"Received: inputs of shape {tuple(input_shape)}"
            )
        self.a, self.b, self.c = (
            self._add_constant(name, value) for name, value in self.initial.items()
        )

    def scaled(self, logits: Tensor) -> Tensor:
        yes, no = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        return self.a * yes - self.b * no + self.c

    def fit(self, logits: Tensor | Prediction, y: Tensor) -> Self:
        """Sets the `a`, `b` and `c` of highest likelihood.

        Args:
            logits: Array `(N, 1)`, the input of this layer: logits, with
                `from_logits=False` probabilities. Or what `uq.predict` returns
                for a classifier that is not random.
            y: Labels `(N,)` or `(N, 1)`, zeros and ones.

        Returns:
            The layer itself.

        Raises:
            ValueError: Labels out of range, shapes that do not agree, or no best
                curve: the labels are all equal, or predicted without a mistake.
        """
        z, y = self._rows(logits, y)
        z = z[:, 0]
        features = np.stack(
            [-np.logaddexp(0.0, -z), np.logaddexp(0.0, z), np.ones_like(z)], axis=1
        )
        self._assign(_best(features, y))
        return self

    def _assign(self, found: Array) -> None:
        for weight, value in zip((self.a, self.b, self.c), found, strict=True):
            weight.assign(value)

    def get_config(self) -> Config:
        state = self.initial
        if self.built:
            state = {"a": float(self.a), "b": float(self.b), "c": float(self.c)}
        return {**super().get_config(), **state}


def _best(features: Array, y: Array) -> Array:
    """The minimum with `a, b >= 0`: the best of those with some of them fixed at 0."""
    found = []
    for used in itertools.product([True, False], repeat=2):
        point = np.zeros(3)
        columns = [*used, True]
        evaluate = logistic(features[:, columns], y)
        point[columns] = minimize(evaluate, np.zeros(sum(columns)))
        if (point[:2] >= 0).all():
            found.append((evaluate(point[columns])[0], point))
    return min(found, key=lambda pair: pair[0])[1]
