import math
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._kl import KLRegularizer
from keras_uq_layers.layers._kl import add_kl_weight
from keras_uq_layers.layers._kl import check_kl_weight
from keras_uq_layers.layers._monte_carlo import dropout_rate
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.layers._seeding import SeedGenerator
from keras_uq_layers.numerics import bernoulli_entropy
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.registration import register
from keras_uq_layers.registration import wrapper_from_config

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@register("ConcreteDropout")
class ConcreteDropout(SavedSeeds, keras.layers.Wrapper):
    """Dropout that learns its rate, applied to the inputs of a layer.

    ```
    output = layer(inputs * keep / (1 - rate)),   rate = sigmoid(rate_logit)
    keep   = 1 - sigmoid((rate_logit + log(u) - log(1 - u)) / temperature)
    KL     = |kernel|^2 / (2 prior_scale^2 (1 - rate)) - F * H(rate)
    loss  += kl_weight * KL
    ```

    with `u` uniform, `F` the number of input features of the kernel and `H`
    the entropy of a Bernoulli variable, in nats. In training the mask is
    relaxed (the concrete distribution), so that the rate has a gradient. With
    `training=False` the mask is an exact Bernoulli draw, as in `MCDropout`:
    each call at inference is a draw, too.

    The KL is that of the dropout posterior from a normal prior, up to a
    constant, so it may be negative. It counts once per forward pass, like
    every KL of weights. The kernel needs no other regularizer. With more data
    `kl_weight` is smaller, and the rate that is learned is lower.

    Args:
        layer: A `Dense`, `Conv1D`, `Conv2D` or `Conv3D` layer. For
            convolutions whole channels are dropped.
        kl_weight: Weight of the KL: 1 / (number of scored training positions).
            Keyword-only, required; held as a variable, so that a callback may
            change it.
        prior_scale: Standard deviation of the prior of the weights.
        initial_rate: Rate at the start, inside (0, 1).
        temperature: Temperature of the relaxation. A smaller one makes the
            mask closer to Bernoulli and the gradients noisier.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: As for the layer.
        training: Boolean; True gives the relaxed mask, False the exact one.

    Input shape:
        As for the layer.

    Output shape:
        As for the layer.

    Raises:
        ValueError: `kl_weight` is missing or negative, a scale, temperature or
            rate is out of range, or the layer is of another kind.

    Example:

    >>> layer = uq.ConcreteDropout(keras.layers.Dense(4), kl_weight=1 / 1000)
    >>> layer(np.ones((2, 3))).shape[-1]
    4
    >>> round(float(layer.rate), 2)
    0.1

    References:
        Gal, Hron & Kendall, 2017, "Concrete Dropout", NeurIPS,
        arXiv:1705.07832.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        *,
        kl_weight: float | None = None,
        prior_scale: float = 1.0,
        initial_rate: float = 0.1,
        temperature: float = 0.1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(layer, (keras.layers.Dense, *_CONVOLUTIONS)):
            raise arguments.error(
                "layer", "a Dense, Conv1D, Conv2D or Conv3D layer", layer
            )
        super().__init__(layer, **kwargs)
        add_kl_weight(self, check_kl_weight(kl_weight))
        self.prior_scale = arguments.positive_float("prior_scale", prior_scale)
        self.initial_rate = dropout_rate("initial_rate", initial_rate)
        if self.initial_rate == 0:
            raise arguments.error("initial_rate", "above 0", initial_rate)
        self.temperature = arguments.positive_float("temperature", temperature)
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        rate = self.initial_rate
        self.rate_logit = self.add_weight(
            name="rate_logit",
            shape=(),
            dtype=self.kl_weight.dtype,
            initializer=keras.initializers.Constant(math.log(rate) - math.log1p(-rate)),
            regularizer=KLRegularizer(self.kl_weight, self.kl),
            autocast=False,
        )

    @property
    def rate(self) -> Tensor:
        """The rate in force, a scalar tensor."""
        return ops.sigmoid(ops.convert_to_tensor(self.rate_logit))

    def kl(self) -> Tensor:
        """KL divergence to the prior, up to a constant, in nats: a scalar."""
        logit = ops.convert_to_tensor(self.rate_logit)
        kernel = ops.cast(ops.convert_to_tensor(self.layer.kernel), logit.dtype)
        # 1 / (1 - rate) = 1 + exp(logit)
        squares = ops.sum(ops.square(kernel / self.prior_scale))
        shrinkage = 0.5 * squares * (1.0 + ops.exp(logit))
        return shrinkage - self._features() * bernoulli_entropy(logit)

    def _features(self) -> int:
        """Number of features or channels, each dropped on its own."""
        return self.layer.kernel.shape[-2] * getattr(self.layer, "groups", 1)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        logit = ops.convert_to_tensor(self.rate_logit)
        smallest = float(finfo(logit.dtype).tiny)  # log(0) is not finite
        uniform = _random.uniform(
            self._noise_shape(inputs),
            smallest,
            keras.backend.standardize_dtype(logit.dtype),
            self.seed_generator.per_example(),
        )
        dropped = logit + ops.log(uniform) - ops.log1p(-uniform)
        if training:
            keep = ops.sigmoid(-dropped / self.temperature)
        else:
            keep = ops.cast(dropped < 0, logit.dtype)
        mask = keep * (1.0 + ops.exp(logit))
        return self.layer(inputs * ops.cast(mask, inputs.dtype))

    def _noise_shape(self, inputs: Tensor) -> tuple:
        shape = ops.shape(inputs)
        if not isinstance(self.layer, _CONVOLUTIONS):
            return shape
        ones = (1,) * (len(shape) - 2)
        if self.layer.data_format == "channels_first":
            return (*shape[:2], *ones)
        return (shape[0], *ones, shape[-1])

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array]]:
        """A copy of `layer`, and its weights, for `to_deterministic`."""
        config = {**self.layer.get_config(), "name": self.name}
        weights = [ops.convert_to_numpy(w) for w in self.layer.weights]
        return type(self.layer).from_config(config), weights

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "kl_weight": self.initial_kl_weight,
            "prior_scale": self.prior_scale,
            "initial_rate": self.initial_rate,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Any = None
    ) -> "ConcreteDropout":
        return wrapper_from_config(cls, config, custom_objects)
