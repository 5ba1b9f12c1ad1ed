import keras
from keras import ops

from keras_uq_layers import numerics
from keras_uq_layers.families.classes import ClassFamily
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.registration import register


@register("families.Bernoulli")
class Bernoulli(ClassFamily):
    """Bernoulli distribution: `D` independent yes-or-no outputs, from logits.

    ```
    p = sigmoid(logit),  log P(y) = y log p + (1 - y) log(1 - p)
    ```

    `y` is 0 or 1 (booleans and integers too), or a probability in between,
    for which `log_prob` is the negative cross-entropy. Outside `[0, 1]` the
    log probability is `-inf`.

    Example:

    >>> family = uq.families.Bernoulli()
    >>> logits = np.array([[0.0]])
    >>> float(family.mean(logits)[0, 0])
    0.5
    >>> round(float(family.log_prob(np.array([1]), logits)[0]), 4)
    -0.6931
    """

    name = "bernoulli"

    def align(self, y, params):
        y = super().align(y, params)
        # Booleans and integers do not mix with floats on every backend.
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y.dtype)):
            y = ops.cast(y, "float32")
        return y

    def marginal_log_prob(self, y, params):
        return numerics.bernoulli_log_prob(self.align(y, params), *self.split(params))

    def mean(self, params):
        (logits,) = self.split(params)
        return ops.sigmoid(logits)

    def variance(self, params):
        (logits,) = self.split(params)
        return ops.sigmoid(logits) * ops.sigmoid(-logits)

    def entropy(self, params):
        """Entropy of each output, in nats: `(..., D)`."""
        return numerics.bernoulli_entropy(*self.split(params))

    def top_label(self, y, params):
        (logits,) = self.split(params)
        y = ops.cast(self.align(y, params), logits.dtype)
        return ops.sigmoid(ops.abs(logits)), ops.where(logits > 0, y, 1.0 - y)

    def cdf(self, y, params):
        (logits,) = self.split(params)
        y = ops.cast(self.align(y, params), logits.dtype)
        below = ops.where(y < 1, ops.sigmoid(-logits), ops.ones_like(logits))
        return ops.where(y < 0, ops.zeros_like(below), below)

    def quantile(self, p, params):
        (logits,) = self.split(params)
        p = ops.cast(p, logits.dtype)
        return ops.cast(p > ops.sigmoid(-logits), logits.dtype)

    def crps(self, y, params):
        """The Brier score `(y - p)^2` of each output: `(..., D)`."""
        (logits,) = self.split(params)
        y = ops.cast(self.align(y, params), logits.dtype)
        return ops.square(y - ops.sigmoid(logits))

    def draw_noise(self, shape, seed=None, dtype="float32"):
        # Uniform on (0, 1): the quantile of 0 is 0 even where p is 1.
        smallest = float(finfo(dtype).tiny)
        return keras.random.uniform(shape, minval=smallest, dtype=dtype, seed=seed)

    def sample_from_noise(self, noise, params):
        """Zeros and ones, without a gradient in `params`."""
        return self.quantile(noise, params)
