import math
from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Categorical
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics import SCALE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.logistic_interval import logistic_log_interval
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register

# Smallest distance of two cut points, in scales of the link.
_SMALLEST_GAP = 1e-3
# A raw scale of 0 and this is a scale of 1.
_RAW_ONE = 1.0 - SCALE_FLOOR + math.log(-math.expm1(SCALE_FLOOR - 1.0))


_LINKS = {"logistic": logistic_log_interval, "normal": normal_log_interval}


@register("OrdinalHead")
class OrdinalHead(Head):
    """Output layer for classes with an order: mild, moderate, severe.

    ```
    P(class <= k) = F((cut_k - loc) / scale),  loc = inputs @ kernel,  scale = 1
    params = [log P(class = 0) | ... | log P(class = K - 1)]
    ```

    The classes are intervals of a number that nobody sees. The inputs move its
    location, and the cut points between the classes are learned, in increasing
    order. It is a cumulative link model: with the logistic `F` the proportional
    odds model, with the normal `F` the ordered probit model.

    With `trainable_scale=True` the inputs move the scale, too: some answers are less
    certain than others. A number that multiplies the location, all cut points and
    the scale changes no probability. It is fixed in this way: where the inputs are
    zero, the location is 0 and the scale is 1, because neither has a bias.

    The params are logits, read by the family `Categorical(ordered=True)`: train
    with `uq.losses.NegativeLogLikelihood` and labels from 0 to `K - 1`. `uq.predict`
    gives the probabilities of the classes, their entropy, the `median` class, and
    an `interval` of classes.

    Args:
        classes: Number of classes `K`, at least 2.
        link: The distribution `F`, `"logistic"` or `"normal"`.
        trainable_scale: Whether the scale depends on the inputs. It is a softplus
            of them, and 1 everywhere before training.
        kernel_initializer: Initializer of the kernel of the location.
        kernel_regularizer: Regularizer of the kernel.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of features.

    Input shape:
        `(batch, ..., F)`.

    Output shape:
        `(batch, ..., K)`: the logarithms of the probabilities.

    Raises:
        ValueError: Fewer than two classes, an unknown link, or a `trainable_scale`
            that is not a boolean.

    Example:

    >>> head = uq.OrdinalHead(4)
    >>> p = np.exp(head(np.zeros((1, 3))))  # equal classes, before training
    >>> [round(float(v), 4) for v in p[0]]
    [0.25, 0.25, 0.25, 0.25]
    >>> prediction = uq.ClassPrediction(np.log(p)[None], head.family)
    >>> prediction.median
    array([1.])

    References:
        McCullagh, 1980, "Regression Models for Ordinal Data", JRSS B 42(2),
        doi:10.1111/j.2517-6161.1980.tb01109.x, section 6 on the scale.
    """

    def __init__(
        self,
        classes: int,
        link: str = "logistic",
        trainable_scale: bool = False,
        kernel_initializer: Identifier = "glorot_uniform",
        kernel_regularizer: Identifier = None,
        **kwargs: Any,
    ):
        # A bias would move all cut points, which move themselves.
        super().__init__(
            classes,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            **kwargs,
        )
        self.family = Categorical(ordered=True)
        self.family.params_size(self.units)
        self.classes = self.units
        self.link = arguments.one_of("link", link, _LINKS)
        self.trainable_scale = arguments.boolean("trainable_scale", trainable_scale)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.raw_cuts = self.add_weight(
            name="raw_cuts",
            shape=(self.classes - 1,),
            dtype=self._output_dtype,
            initializer=lambda _, dtype: _raw(self._initial_cuts(), dtype),
            # In half precision cut points would lose their digits.
            autocast=False,
        )

    def _initial_kernel(self, shape: Shape, dtype: str) -> Tensor:
        kernel = super()._initial_kernel((shape[0], 1), dtype)
        # The scale is 1 for every input.
        return ops.pad(kernel, ((0, 0), (0, self._features_size() - 1)))

    def _initial_cuts(self) -> Array:
        """At a location of 0, all classes have the same probability."""
        below = np.arange(1, self.classes) / self.classes
        if self.link == "normal":
            # Here, since this module of Python is slow to load.
            from statistics import NormalDist

            return np.array([NormalDist().inv_cdf(p) for p in below])
        return np.log(below) - np.log1p(-below)

    @property
    def cuts(self) -> Tensor:
        """The cut points, an increasing tensor of shape `(K - 1,)`."""
        return self._cuts_and_gaps[0]

    @property
    def _cuts_and_gaps(self) -> tuple[Tensor, Tensor]:
        """The cut points, and how far each but the last is below the next."""
        raw = ops.convert_to_tensor(self.raw_cuts)
        gaps = positive(raw[1:], _SMALLEST_GAP)
        # Not `ops.cumsum`, which on PyTorch Keras computes in float32.
        steps = ops.concatenate([raw[:1], gaps])
        until = ops.tril(ops.ones((self.classes - 1, self.classes - 1), steps.dtype))
        return ops.sum(until * steps, axis=-1), gaps

    def _features_size(self) -> int:
        return 2 if self.trainable_scale else 1

    def _params_size(self) -> int:
        return self.classes

    def _to_params(self, features: Tensor) -> Tensor:
        # On PyTorch, `Dense` without a bias returns float32 for float64.
        features = ops.cast(features, self._output_dtype)
        loc = features[..., :1]
        scale = ops.ones_like(loc)
        if self.trainable_scale:
            scale = positive(features[..., 1:] + _RAW_ONE, SCALE_FLOOR)
        cuts, gaps = self._cuts_and_gaps
        end = ops.ones_like(cuts[:1])
        lower = ops.concatenate([-np.inf * end, cuts])
        upper = ops.concatenate([cuts, np.inf * end])
        widths = ops.concatenate([end, gaps, end])
        return _LINKS[self.link](lower, upper, loc, scale, widths)

    def get_config(self) -> Config:
        config = super().get_config()
        kept = ("units", "use_bias", "bias_initializer", "bias_regularizer")
        config = {key: value for key, value in config.items() if key not in kept}
        return {
            **config,
            "classes": self.classes,
            "link": self.link,
            "trainable_scale": self.trainable_scale,
        }


def _raw(cuts: Array, dtype: str) -> Tensor:
    """The weight that gives these cut points: the first, and the raw gaps."""
    gaps = positive_inverse(ops.convert_to_tensor(np.diff(cuts), dtype), _SMALLEST_GAP)
    return ops.concatenate([ops.convert_to_tensor(cuts[:1], dtype), gaps])
