"""The abstract class of dense and convolutional layers with random weights."""

import math
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._kl import add_kl_weight
from keras_uq_layers.layers._kl import check_kl_weight
from keras_uq_layers.layers._random_weights import RandomWeights
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.posteriors import get_posterior
from keras_uq_layers.priors import Prior
from keras_uq_layers.priors import get_prior

REPARAMETERIZATION = "reparameterization"
FLIPOUT = "flipout"
LOCAL_REPARAMETERIZATION = "local_reparameterization"
ESTIMATORS = (LOCAL_REPARAMETERIZATION, FLIPOUT, REPARAMETERIZATION)


class VariationalLayer(SavedSeeds):
    """Abstract: a linear map with random kernel and bias, and an activation.

    A subclass lists its `estimators`, the default first. Its `build` gives the
    shapes, `_linear` the linear map, and `_plain_layer` the layer without
    randomness.

    Attributes:
        kernel: The posterior means of the kernel, a variable.
        bias: The bias or its posterior means, a variable, or None.
        posterior: The posterior, with the scales of all random weights.
    """

    estimators: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        activation: Identifier,
        kl_weight: float | None,
        estimator: str | None,
        posterior: Identifier,
        prior: Identifier,
        bias_prior: Identifier,
        use_bias: bool,
        deterministic_bias: bool,
        kernel_initializer: Identifier,
        bias_initializer: Identifier,
        seed: int | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        add_kl_weight(self, check_kl_weight(kl_weight))
        self.activation = keras.activations.get(activation)
        self.use_bias = arguments.boolean("use_bias", use_bias)
        self.deterministic_bias = arguments.boolean(
            "deterministic_bias", deterministic_bias
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.posterior = get_posterior(posterior)
        self.prior = get_prior(prior)
        if bias_prior is None:
            self.bias_prior = None
        else:
            self.bias_prior = get_prior(bias_prior, "bias_prior")
        self.estimator = self._check_estimator(estimator)
        self.seed = seed
        priors: dict[str | None, Prior] = {None: self.prior}
        if self.bias_prior is not None and use_bias and not deterministic_bias:
            priors["bias"] = self.bias_prior
        self.random_weights = RandomWeights(
            self.posterior, priors, self.kl_weight, seed
        )
        self.seed_generators = self.random_weights.generators
        self.supports_masking = True

    def _check_estimator(self, estimator: str | None) -> str:
        factorised = self.posterior.factorised
        valid = self.estimators if factorised else (REPARAMETERIZATION,)
        if estimator is None:
            return valid[0]
        if estimator not in valid:
            raise ValueError(
                f"`estimator` must be one of {', '.join(map(repr, valid))} for "
                f"{type(self).__name__} with `posterior={self.posterior.name!r}`: "
                "flipout and local reparameterization need independent weights. "
                f"Received: estimator={estimator!r}"
            )
        return estimator

    def _build_weights(
        self, kernel_shape: tuple[int, ...], bias_size: int, fans: tuple[int, int]
    ) -> None:
        self.kernel = self._add_wide_weight(
            "kernel", kernel_shape, self.kernel_initializer
        )
        self.bias = None
        if self.use_bias:
            self.bias = self._add_wide_weight(
                "bias", (bias_size,), self.bias_initializer
            )
        means = {"kernel": self.kernel}
        if self.use_bias and not self.deterministic_bias:
            means["bias"] = self.bias
        glorot = math.sqrt(2.0 / sum(fans))
        self.random_weights.build(self.add_weight, means, dict.fromkeys(means, glorot))

    def _add_wide_weight(
        self, name: str, shape: tuple[int, ...], initializer: Identifier
    ) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            # Under a mixed policy the posterior stays in float32.
            dtype=self.kl_weight.dtype,
            autocast=False,
            initializer=initializer,
        )

    def kl(self) -> Tensor:
        """KL divergence from the posterior to the prior, in nats: a scalar."""
        return self.random_weights.kl()

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        inputs = ops.cast(inputs, self.compute_dtype)
        if training and self.estimator == FLIPOUT:
            outputs = self._flipout(inputs)
        elif training and self.estimator == LOCAL_REPARAMETERIZATION:
            outputs = self._local_reparameterization(inputs)
        else:
            weights = self.random_weights.draw()
            outputs = self._affine(
                inputs, weights["kernel"], weights.get("bias", self.bias)
            )
        return self.activation(outputs)

    def _affine(self, inputs: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        outputs = self._linear(inputs, self._cast(kernel))
        if bias is not None:
            outputs = self._add_bias(outputs, self._cast(bias))
        return outputs

    def _flipout(self, inputs: Tensor) -> Tensor:
        change = self.random_weights.perturbation()
        outputs = self._affine(inputs, self.kernel, self.bias)
        signs_in, signs_out = self._signs(inputs, outputs)
        changed = self._linear(inputs * signs_in, self._cast(change["kernel"]))
        if "bias" in change:
            # The bias is the weight of a constant input, whose sign is +1.
            changed = self._add_bias(changed, self._cast(change["bias"]))
        return outputs + changed * signs_out

    def _signs(self, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Random signs of one example's inputs and outputs, from one draw.

        They are the same at all positions of an example, so that each example
        has one set of weights. A kernel that is shared between positions
        requires this.
        """
        axis = self._channel_axis
        signs_in, signs_out = _random.signs(
            ops.shape(inputs)[0],
            (inputs.shape[axis], outputs.shape[axis]),
            self.compute_dtype,
            self.seed_generators[0].per_example(),
        )

        def spread(signs):
            shape = [ops.shape(signs)[0]] + [1] * (len(inputs.shape) - 1)
            shape[axis] = signs.shape[-1]
            return ops.reshape(signs, shape)

        if len(inputs.shape) == 2:
            return signs_in, signs_out
        return spread(signs_in), spread(signs_out)

    def _local_reparameterization(self, inputs: Tensor) -> Tensor:
        outputs = self._affine(inputs, self.kernel, self.bias)
        scale = self.posterior.unpack(self.posterior.marginal_scale())
        # The square of a half precision input overflows at 256.
        wide = ops.cast(inputs, at_least_float32(self.compute_dtype))
        variance = self._linear(ops.square(wide), ops.square(scale["kernel"]))
        if "bias" in scale:
            variance = self._add_bias(variance, ops.square(scale["bias"]))
        noise = _random.normal(
            ops.shape(outputs),
            keras.backend.standardize_dtype(variance.dtype),
            self.seed_generators[0].per_example(),
        )
        # An input of zeros without a random bias has no variance; the root
        # has an infinite gradient there.
        spread = ops.sqrt(ops.maximum(variance, 1e-30)) * noise
        return outputs + self._cast(spread)

    def _cast(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self.compute_dtype)

    def _linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Applies the kernel to the inputs: a product or a convolution."""
        raise NotImplementedError

    def _plain_layer(self) -> keras.layers.Layer:
        """The Keras layer with the same arguments and no randomness."""
        raise NotImplementedError

    @property
    def _channel_axis(self) -> int:
        return -1

    def _add_bias(self, outputs: Tensor, bias: Tensor) -> Tensor:
        if self._channel_axis == 1:
            bias = ops.reshape(bias, (-1,) + (1,) * (len(outputs.shape) - 2))
        return outputs + bias

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._plain_layer().compute_output_shape(input_shape)

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array] | None]:
        """The plain Keras layer at the posterior mean, for `to_deterministic`.

        Returns:
            The layer, not built, and the weights to set once it is, or None.
        """
        if not self.built:
            return self._plain_layer(), None
        weights = [w for w in (self.kernel, self.bias) if w is not None]
        return self._plain_layer(), [ops.convert_to_numpy(w) for w in weights]

    def get_config(self) -> Config:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "kl_weight": self.initial_kl_weight,
            "estimator": self.estimator,
            "posterior": serialize(self.posterior),
            "prior": serialize(self.prior),
            "bias_prior": self.bias_prior and serialize(self.bias_prior),
            "use_bias": self.use_bias,
            "deterministic_bias": self.deterministic_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "seed": self.seed,
        }
