from statistics import NormalDist
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
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.numerics.intervals import log_rise
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.registration import register

# Smallest distance of two cut points, in scales of the link.
_SMALLEST_GAP = 1e-3


def _logistic(lower: Tensor, upper: Tensor, loc: Tensor, gap: Tensor) -> Tensor:
    """`log(sigmoid(upper - loc) - sigmoid(lower - loc))`, `gap = upper - lower`."""
    below, above = lower <= -np.inf, upper >= np.inf
    zero = ops.zeros_like(loc + gap)
    until = ops.where(above, zero, ops.where(above, zero, upper) - loc)
    beyond = ops.where(below, zero, loc - ops.where(below, zero, lower))
    left = ops.where(above, zero, -ops.softplus(-until))
    right = ops.where(below, zero, -ops.softplus(-beyond))
    inner = log_rise(ops.where(below | above, 1.0 + zero, gap), 1.0 + zero)
    return left + right + ops.where(below | above, zero, inner)


def _normal(lower: Tensor, upper: Tensor, loc: Tensor, gap: Tensor) -> Tensor:
    return normal_log_interval(lower, upper, loc, ops.ones_like(loc), gap)


_LINKS = {"logistic": _logistic, "normal": _normal}


@register("OrdinalHead")
class OrdinalHead(Head):
    """Output layer for classes with an order: mild, moderate, severe.

    ```
    P(class <= k) = F(cut_k - loc),  loc = inputs @ kernel
    params = [log P(class = 0) | ... | log P(class = K - 1)]
    ```

    The classes are intervals of a number that nobody sees. The inputs move its
    location, and the cut points between the classes are learned, in increasing
    order. It is a cumulative link model: with the logistic `F` the proportional
    odds model, with the normal `F` the ordered probit model.

    The params are logits, read by the family `"categorical"`: train with
    `uq.losses.NegativeLogLikelihood` and labels from 0 to `K - 1`.
    `uq.predict` gives the probabilities `p` of the classes and their entropy;
    the median class is `(p.cumsum(-1) < 0.5).sum(-1)`.

    Args:
        classes: Number of classes `K`, at least 2.
        link: The distribution `F`, `"logistic"` or `"normal"`.
        kernel_initializer: Initializer of the kernel.
        kernel_regularizer: Regularizer of the kernel.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of features.

    Input shape:
        `(batch, ..., F)`.

    Output shape:
        `(batch, ..., K)`: the logarithms of the probabilities.

    Raises:
        ValueError: Fewer than two classes, or an unknown link.

    Example:

    >>> head = uq.OrdinalHead(4)
    >>> p = np.exp(head(np.zeros((1, 3))))  # equal classes, before training
    >>> [round(float(v), 4) for v in p[0]]
    [0.25, 0.25, 0.25, 0.25]
    >>> int((p.cumsum(-1) < 0.5).sum(-1)[0])
    1

    References:
        McCullagh, 1980, "Regression Models for Ordinal Data", JRSS B 42(2),
        doi:10.1111/j.2517-6161.1980.tb01109.x.
    """

    def __init__(
        self,
        classes: int,
        link: str = "logistic",
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
        self.family = Categorical()
        self.family.params_size(self.units)
        self.classes = self.units
        self.link = arguments.one_of("link", link, _LINKS)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        cuts = self._initial_cuts()
        self.first_cut = self._add_cuts("first_cut", cuts[:1])
        if self.classes > 2:
            gaps = ops.convert_to_tensor(np.diff(cuts), self._output_dtype)
            raw = positive_inverse(gaps, _SMALLEST_GAP)
            self.raw_gaps = self._add_cuts("raw_gaps", raw)

    def _add_cuts(self, name: str, value: Array | Tensor) -> Any:
        return self.add_weight(
            name=name,
            shape=tuple(value.shape),
            dtype=self._output_dtype,
            initializer=lambda _, dtype: ops.cast(value, dtype),
        )

    def _initial_cuts(self) -> Array:
        """At a location of 0, all classes have the same probability."""
        below = np.arange(1, self.classes) / self.classes
        if self.link == "normal":
            return np.array([NormalDist().inv_cdf(p) for p in below])
        return np.log(below) - np.log1p(-below)

    @property
    def cuts(self) -> Tensor:
        """The cut points, an increasing tensor of shape `(K - 1,)`."""
        cuts = ops.convert_to_tensor(self.first_cut)
        if self.classes == 2:
            return cuts
        gaps = positive(ops.convert_to_tensor(self.raw_gaps), _SMALLEST_GAP)
        return ops.concatenate([cuts, cuts + ops.cumsum(gaps)])

    def _features_size(self) -> int:
        return 1

    def _params_size(self) -> int:
        return self.classes

    def _to_params(self, loc: Tensor) -> Tensor:
        # On PyTorch, `Dense` without a bias returns float32 for float64.
        loc = ops.cast(loc, self._output_dtype)
        cuts = ops.cast(self.cuts, loc.dtype)
        end = ops.ones_like(cuts[:1])
        lower = ops.concatenate([-np.inf * end, cuts])
        upper = ops.concatenate([cuts, np.inf * end])
        gap = end
        if self.classes > 2:
            gaps = positive(ops.convert_to_tensor(self.raw_gaps), _SMALLEST_GAP)
            gap = ops.concatenate([end, ops.cast(gaps, loc.dtype), end])
        else:
            gap = ops.concatenate([end, end])
        return _LINKS[self.link](lower, upper, loc, gap)

    def get_config(self) -> Config:
        config = super().get_config()
        kept = ("units", "use_bias", "bias_initializer", "bias_regularizer")
        config = {key: value for key, value in config.items() if key not in kept}
        return {**config, "classes": self.classes, "link": self.link}
