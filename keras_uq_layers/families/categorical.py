import numpy as np
from keras import ops
from keras.backend import is_float_dtype
from keras.backend import standardize_dtype

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.families._classes import log_probability
from keras_uq_layers.registration import register


def _weighted(weight: Tensor, log_p: Tensor) -> Tensor:
    """`weight log(p)`, 0 where the weight is 0."""
    # log_p is -inf where the difference of two logits overflows.
    unused = weight == 0
    terms = weight * ops.where(unused, ops.zeros_like(log_p), log_p)
    return ops.where(unused, ops.zeros_like(terms), terms)


@register("families.Categorical")
class Categorical(ClassFamily):
    """Categorical distribution over `K` classes.

    ```
    log P(y) = sum over k of y_k log p_k,  p = softmax(logits)
    ```

    Here `D`, the width of the params, is the number of classes, two or more:
    `DistributionHead(10, family="categorical")`. `y` is a label, an integer
    in `[0, K)`, of shape `(...)` or `(..., 1)`; or the probabilities of the
    classes (one-hot for a label), of shape `(..., K)`, for which `log_prob`
    is the negative cross-entropy. A label outside `[0, K)` has a log
    probability of `-inf`.

    `mean`, `variance` and `sample` are those of the one-hot vector: the mean
    holds the probabilities.

    The params are the logits or, with `from_logits=False`, the probabilities:
    the output of a model that ends in a softmax. Logits are exact at any
    confidence. A softmax rounds small probabilities to 0: from probabilities
    the log probability of a class is -87.3 at the least, in float32.

    Classes with an order, such as mild, moderate and severe, also have a CRPS, here
    the ranked probability score, and in a prediction a median, quantiles and
    intervals, all of which are labels.

    Args:
        from_logits: Whether the params are logits; if not, probabilities.
        ordered: Whether the classes have an order, that of their labels.

    Raises:
        ValueError: `from_logits` or `ordered` is not a boolean.

    Example:

    >>> family = uq.families.Categorical()
    >>> logits = np.array([[0.0, 0.0]])
    >>> round(float(family.log_prob(np.array([1]), logits)[0]), 4)
    -0.6931
    >>> float(family.mean(logits)[0, 1])
    0.5
    >>> family = uq.families.Categorical(from_logits=False)
    >>> round(float(family.log_prob(np.array([1]), np.array([[0.5, 0.5]]))[0]), 4)
    -0.6931

    Reference:
        Epstein, 1969, "A Scoring System for Probability Forecasts of Ranked
        Categories", J. Applied Meteorology 8(6),
        doi:10.1175/1520-0450(1969)008<0985:ASSFPF>2.0.CO;2, the ranked score.
    """

    name = "categorical"
    independent = False

    def __init__(self, from_logits: bool = True, ordered: bool = False) -> None:
        super().__init__(from_logits)
        self.ordered = arguments.boolean("ordered", ordered)

    def params_size(self, units: int) -> int:
        if arguments.positive_int("units", units) == 1:
            raise arguments.error(
                "units", "the number of classes, at least 2 (or use 'bernoulli')", units
            )
        return units

    def units(self, params_size: int | None) -> int:
        if params_size is None or params_size < 2:
            raise ValueError(
                f"The last axis of `params` must hold the {self.parameters[0]} of at "
                f"least 2 classes for the family {self.name!r}. Received: a last "
                f"axis of size {params_size}"
            )
        return params_size

    def align(self, y: Tensor, params: Tensor) -> Tensor:
        """`y` as class probabilities `(..., K)`; labels become one-hot.

        Args:
            y: Labels `(...)` or `(..., 1)`, or probabilities `(..., K)`.
            params: Logits or probabilities of the classes, `(..., K)`.

        Returns:
            Float tensor `(..., K)`. A label outside `[0, K)` gives a row of
            -1, which no distribution has.

        Raises:
            ValueError: The shapes do not agree. Nothing is broadcast.
        """
        y = ops.convert_to_tensor(y)
        shape, given = tuple(params.shape), tuple(y.shape)
        classes = self.units(shape[-1] if shape else None)
        if len(given) == len(shape) and given[-1] == classes:
            leading = given[:-1]
        elif len(given) == len(shape) and given[-1] == 1:
            leading, y = given[:-1], ops.squeeze(y, -1)
        else:
            leading = given
        if len(leading) != len(shape) - 1 or any(
            a is not None and b is not None and a != b
            for a, b in zip(leading, shape[:-1], strict=True)
        ):
            raise ValueError(
                f"`y` must hold labels of shape {shape[:-1]} or probabilities of "
                f"shape {shape} to agree with `params` of shape {shape}, the "
                f"{self.parameters[0]} of {classes} classes. "
                f"Received: y of shape {given}"
            )
        dtype = standardize_dtype(y.dtype)
        wide = dtype if is_float_dtype(dtype) else "float32"
        if len(y.shape) == len(shape):
            return ops.cast(y, wide)
        # Compared and not `one_hot`: it must show a label that is no class.
        labels = ops.expand_dims(ops.cast(y, wide), -1)
        one_hot = ops.cast(labels == ops.arange(classes, dtype=wide), wide)
        known = ops.any(one_hot > 0, axis=-1, keepdims=True)
        return ops.where(known, one_hot, -ops.ones_like(one_hot))

    def _target_rule(self, y: Array, params: Tensor | None) -> tuple[Array, str]:
        if params is None:
            return y < 0, "labels or probabilities"
        shape = tuple(params.shape)
        if y.ndim == len(shape) and y.shape[-1] == shape[-1]:
            return self.outside_support(y), "probabilities"
        outside = (y < 0) | (y >= shape[-1]) | (y > np.floor(y))
        return outside, f"labels from 0 to {shape[-1] - 1}"

    def constrain_parts(self, raw: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        return (raw if self.from_logits else ops.softmax(raw, axis=-1),)

    def unconstrain_parts(self, part: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        return (part if self.from_logits else log_probability(part),)

    def _log_probabilities(self, part: Tensor) -> Tensor:
        if self.from_logits:
            return ops.log_softmax(part, axis=-1)
        return log_probability(part)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        """The terms `y_k log p_k` of the log probability: `(..., K)`."""
        y, (part,) = self.align(y, params), self.split(params)
        outside = self.outside_support(y)
        safe = ops.cast(ops.where(outside, ops.zeros_like(y), y), part.dtype)
        terms = _weighted(safe, self._log_probabilities(part))
        return ops.where(outside, ops.full_like(terms, -float("inf")), terms)

    def mean(self, params: Tensor) -> Tensor:
        (part,) = self.split(params)
        return ops.softmax(part, axis=-1) if self.from_logits else part

    def variance(self, params: Tensor) -> Tensor:
        p = self.mean(params)
        return p * (1.0 - p)

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats: `(...)`."""
        (part,) = self.split(params)
        log_p = self._log_probabilities(part)
        p = ops.exp(log_p) if self.from_logits else part
        return -ops.sum(_weighted(p, log_p), axis=-1)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """The ranked probability score of classes with an order: `(..., 1)`.

        ```
        sum over k of (P(class <= k) - [y <= k])^2
        ```

        It is the CRPS of the label, and for two classes the Brier score.
        """
        if not self.ordered:
            return super().crps(y, params)
        p = self.mean(params)
        y = ops.cast(self.align(y, params), p.dtype)
        outside = ops.any(self.outside_support(y), axis=-1, keepdims=True)
        # Not `ops.cumsum`, which on PyTorch Keras computes in float32.
        until = ops.triu(ops.ones((p.shape[-1], p.shape[-1] - 1), p.dtype))
        below = ops.sum((p - y)[..., None] * until, axis=-2)
        score = ops.sum(ops.square(below), axis=-1, keepdims=True)
        return ops.where(outside, float("inf"), score)

    def top_label(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        p = self.mean(params)
        y = ops.cast(self.align(y, params), p.dtype)
        top = ops.expand_dims(ops.argmax(p, axis=-1), -1)
        right = ops.take_along_axis(y, top, axis=-1)
        return ops.max(p, axis=-1, keepdims=True), right

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        """One-hot draws by the Gumbel maximum, without a gradient."""
        (part,) = self.split(params)
        logits = part if self.from_logits else log_probability(part)
        gumbel = -ops.log(-ops.log(noise))
        top = ops.argmax(logits + gumbel, axis=-1)
        classes = ops.arange(logits.shape[-1], dtype=top.dtype)
        return ops.cast(ops.expand_dims(top, -1) == classes, logits.dtype)
