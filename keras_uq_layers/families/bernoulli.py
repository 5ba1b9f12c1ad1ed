import keras
from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.families._classes import log_complement
from keras_uq_layers.families._classes import log_probability
from keras_uq_layers.numerics import bernoulli_entropy
from keras_uq_layers.registration import register


def _log_prob(y: Tensor, log_p: Tensor, log_rest: Tensor) -> Tensor:
    """`y log(p) + (1 - y) log(1 - p)`, `-inf` where `y` is outside of [0, 1]."""
    outside = (y < 0) | (y > 1)
    y = ops.where(outside, ops.zeros_like(y), y)
    inside = y * log_p + (1.0 - y) * log_rest
    return ops.where(outside, ops.full_like(inside, -float("inf")), inside)


@register("families.Bernoulli")
class Bernoulli(ClassFamily):
    """Bernoulli distribution: `D` independent yes-or-no outputs.

    ```
    log P(y) = y log p + (1 - y) log(1 - p),  p = sigmoid(logit)
    ```

    `y` is 0 or 1 (booleans and integers too), or a probability in between,
    for which `log_prob` is the negative cross-entropy. Outside `[0, 1]` the
    log probability is `-inf`.

    The params are the logits or, with `from_logits=False`, the probabilities
    `p` of a 1: the output of a model that ends in a sigmoid. Logits are exact
    at any confidence. A sigmoid rounds to 0 and 1, so that from probabilities
    the log probability is bounded: in float32 by -87.3 for a 1 that was
    given `p = 0`, by -17.3 for a 0 that was given `p = 1`.

    Args:
        from_logits: Whether the params are logits; if not, probabilities.

    Raises:
        ValueError: `from_logits` is not a boolean.

    Example:

    >>> family = uq.families.Bernoulli()
    >>> logits = np.array([[0.0]])
    >>> float(family.mean(logits)[0, 0])
    0.5
    >>> round(float(family.log_prob(np.array([1]), logits)[0]), 4)
    -0.6931
    >>> family = uq.families.Bernoulli(from_logits=False)
    >>> round(float(family.log_prob(np.array([1]), np.array([[0.5]]))[0]), 4)
    -0.6931
    """

    name = "bernoulli"

    def constrain_parts(self, raw: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        return (raw if self.from_logits else ops.sigmoid(raw),)

    def unconstrain_parts(self, part: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        if self.from_logits:
            return (part,)
        return (log_probability(part) - log_complement(part),)

    def _probabilities(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities of a 1 and of a 0, each `(..., D)`."""
        (part,) = self.split(params)
        if self.from_logits:
            return ops.sigmoid(part), ops.sigmoid(-part)
        return part, 1.0 - part

    def align(self, y: Tensor, params: Tensor) -> Tensor:
        y = super().align(y, params)
        # Booleans and integers do not mix with floats on every backend.
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y.dtype)):
            y = ops.cast(y, "float32")
        return y

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        (part,) = self.split(params)
        if self.from_logits:
            logs = -ops.softplus(-part), -ops.softplus(part)
        else:
            logs = log_probability(part), log_complement(part)
        return _log_prob(ops.cast(self.align(y, params), part.dtype), *logs)

    def mean(self, params: Tensor) -> Tensor:
        return self._probabilities(params)[0]

    def variance(self, params: Tensor) -> Tensor:
        one, zero = self._probabilities(params)
        return one * zero

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy of each output, in nats: `(..., D)`."""
        (part,) = self.split(params)
        if self.from_logits:
            return bernoulli_entropy(part)
        return -part * log_probability(part) - (1.0 - part) * log_complement(part)

    def top_label(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        one, zero = self._probabilities(params)
        y = ops.cast(self.align(y, params), one.dtype)
        likely = one > zero
        return ops.where(likely, one, zero), ops.where(likely, y, 1.0 - y)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        _, zero = self._probabilities(params)
        y = ops.cast(self.align(y, params), zero.dtype)
        below = ops.where(y < 1, zero, ops.ones_like(zero))
        return ops.where(y < 0, ops.zeros_like(below), below)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        _, zero = self._probabilities(params)
        return ops.cast(ops.cast(p, zero.dtype) > zero, zero.dtype)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """The Brier score `(y - p)^2` of each output: `(..., D)`."""
        one, zero = self._probabilities(params)
        y = ops.cast(self.align(y, params), one.dtype)
        # `y - one`, with the digits of a small probability of either side.
        return ops.square(y * zero - (1.0 - y) * one)

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        """Zeros and ones, without a gradient in `params`."""
        return self.quantile(noise, params)
