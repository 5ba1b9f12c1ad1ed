"""What the variational layers share: posterior, priors, seeds and the KL."""

import math

import keras
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers.layers._seeding import SeedGenerator
from keras_uq_layers.layers._seeding import load_seed_states
from keras_uq_layers.layers._seeding import save_seed_states
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.numerics.dtypes import as_loss
from keras_uq_layers.variational import get_posterior
from keras_uq_layers.variational import get_prior

REPARAMETERIZATION = "reparameterization"
FLIPOUT = "flipout"
LOCAL_REPARAMETERIZATION = "local_reparameterization"
ALL_WEIGHTS = "weights"

_BITS = 16


def check_kl_weight(kl_weight):
    if kl_weight is None:
        raise ValueError(
            "`kl_weight` must be given: 1 / (number of scored training "
            "positions), for example `kl_weight=1 / len(x_train)`, since the "
            "loss of Keras is a mean over positions. Received: kl_weight=None"
        )
    return arguments.non_negative_float("kl_weight", kl_weight)


class WeightLoss(keras.regularizers.Regularizer):
    """A loss of weights alone, to be the regularizer of one of them.

    Keras evaluates it once per forward pass; see `RandomWeights`.
    """

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return as_loss(self.function())


class RandomWeights:
    """The random weights of one layer: posterior, priors and their KL.

    The KL depends on weights alone, and Keras has a notion for such a loss:
    the regularizer of a weight. Keras evaluates it once per forward pass,
    however often the layer is called in it (shared, in `TimeDistributed`, in
    a recurrent loop), on every backend. So the KL is the regularizer of the
    posterior's scale; as with any regularizer, a frozen layer adds none.

    Args:
        layer: The layer that the weights are created in.
        kl_weight: Weight of the KL, a float; held as a variable.
        posterior: A `Posterior`.
        priors: Dict from the name of a weight to its `Prior`; or
            `{"weights": prior}`, one prior for all weights.
        seed: Integer seed of the draws, or None.
    """

    def __init__(self, layer, kl_weight, posterior, priors, seed):
        self.layer, self.posterior, self.priors = layer, posterior, priors
        self.seed = seed
        self.generators = [SeedGenerator(seed)]
        if any(prior.needs_draw for prior in priors.values()):
            # Its own stream: reading `model.losses` must not move the weights'.
            kl_seed = None if seed is None else seed + 1
            self.generators.append(SeedGenerator(kl_seed))

        # Here and not in `build`: a callback may look for it before the first
        # step of training builds the layer.
        self.kl_weight = self._add_weight(
            name="kl_weight",
            shape=(),
            initializer=keras.initializers.Constant(kl_weight),
            trainable=False,
        )

    def _add_weight(self, **kwargs):
        # Posteriors live in float32 or wider under a mixed policy, too.
        dtype = at_least_float32(self.layer.variable_dtype)
        return self.layer.add_weight(dtype=dtype, autocast=False, **kwargs)

    def build(self, shapes, loc, glorot_scales):
        """Creates the weights in the layer; see `Posterior.build`."""
        self.posterior.build(
            self._add_weight,
            shapes,
            loc,
            glorot_scales,
            regularizer=WeightLoss(self.weighted_kl),
            seed=self.seed,
        )
        for name, prior in self.priors.items():
            prior.build(self._add_weight, f"{name}_prior")

    def weighted_kl(self):
        return ops.convert_to_tensor(self.kl_weight) * self.kl()

    def kl(self):
        """KL divergence from the posterior to the prior, in nats: a scalar."""
        posterior = self.posterior
        loc, scale = posterior.loc(), posterior.marginal_scale()
        draw = None
        if len(self.generators) > 1:
            draw = posterior.draw(self._noise(-1))
        # The priors are independent: what is left of the KL beyond that of
        # the single weights is the correlation between them.
        kl = posterior.total_correlation()
        if ALL_WEIGHTS in self.priors:
            return kl + self.priors[ALL_WEIGHTS].kl(loc, scale, draw)
        loc, scale = posterior.unpack(loc), posterior.unpack(scale)
        draw = {} if draw is None else posterior.unpack(draw)
        for name, prior in self.priors.items():
            kl = kl + prior.kl(loc[name], scale[name], draw.get(name))
        return kl

    def draw(self):
        """One draw of all weights: dict from name to tensor."""
        return self.posterior.unpack(self.posterior.draw(self._noise(0)))

    def perturbation(self):
        """One draw less the means: dict from name to tensor."""
        return self.posterior.unpack(self.posterior.perturbation(self._noise(0)))

    def _noise(self, stream):
        return keras.random.normal(
            (self.posterior.noise_size,),
            dtype=keras.backend.standardize_dtype(self.kl_weight.dtype),
            seed=self.generators[stream],
        )


class VariationalLayer(keras.layers.Layer):
    """Abstract: a linear map with random kernel and bias, and an activation.

    A subclass names the `estimators` that exist for it, the default first,
    gives the shapes in `build`, the linear map in `_linear` and the layer
    without randomness in `_plain_layer`.
    """

    estimators: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        activation,
        kl_weight,
        estimator,
        posterior,
        prior,
        bias_prior,
        use_bias,
        deterministic_bias,
        kernel_initializer,
        bias_initializer,
        seed,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.initial_kl_weight = check_kl_weight(kl_weight)
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
        if self.bias_prior and use_bias and not deterministic_bias:
            priors = {"kernel": self.prior, "bias": self.bias_prior}
        else:
            priors = {ALL_WEIGHTS: self.prior}
        self.random_weights = RandomWeights(
            self, self.initial_kl_weight, self.posterior, priors, seed
        )
        self.seed_generators = self.random_weights.generators
        self.supports_masking = True

    def _check_estimator(self, estimator):
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

    def _build_weights(self, kernel_shape, bias_size, fans):
        dtype = at_least_float32(self.variable_dtype)
        shapes = {"kernel": tuple(kernel_shape)}
        self.bias = None
        if self.use_bias and self.deterministic_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(bias_size,),
                dtype=dtype,
                autocast=False,
                initializer=self.bias_initializer,
            )
        elif self.use_bias:
            shapes["bias"] = (bias_size,)
        initializers = {
            "kernel": self.kernel_initializer,
            "bias": self.bias_initializer,
        }
        self.posterior_loc = self.add_weight(
            name="posterior_loc",
            shape=(sum(math.prod(shape) for shape in shapes.values()),),
            dtype=dtype,
            autocast=False,
            initializer=lambda _, dtype: ops.concatenate(
                [
                    ops.reshape(initializers[name](shape, dtype=dtype), (-1,))
                    for name, shape in shapes.items()
                ]
            ),
        )
        self.random_weights.build(
            shapes,
            lambda: ops.convert_to_tensor(self.posterior_loc),
            dict.fromkeys(shapes, math.sqrt(2.0 / sum(fans))),
        )

    @property
    def kl_weight(self):
        """The weight of the KL in force, a variable."""
        return self.random_weights.kl_weight

    def kl(self):
        """KL divergence from the posterior to the prior, in nats: a scalar."""
        return self.random_weights.kl()

    def call(self, inputs, training=False):
        inputs = ops.cast(inputs, self.compute_dtype)
        if training and self.estimator == FLIPOUT:
            outputs = self._flipout(inputs)
        elif training and self.estimator == LOCAL_REPARAMETERIZATION:
            outputs = self._local_reparameterization(inputs)
        else:
            weights = self.random_weights.draw()
            outputs = self._affine(inputs, weights["kernel"], weights.get("bias"))
        return self.activation(outputs)

    def _affine(self, inputs, kernel, bias):
        outputs = self._linear(inputs, self._cast(kernel))
        bias = self.bias if bias is None else bias
        if bias is not None:
            outputs = self._add_bias(outputs, self._cast(ops.convert_to_tensor(bias)))
        return outputs

    def _flipout(self, inputs):
        posterior = self.posterior
        mean = posterior.unpack(posterior.loc())
        change = self.random_weights.perturbation()
        outputs = self._affine(inputs, mean["kernel"], mean.get("bias"))
        signs_in, signs_out = self._signs(inputs, outputs)
        changed = self._linear(inputs * signs_in, self._cast(change["kernel"]))
        if "bias" in change:
            # The bias is the weight of a constant input, whose sign is +1.
            changed = self._add_bias(changed, self._cast(change["bias"]))
        return outputs + changed * signs_out

    def _signs(self, inputs, outputs):
        """Random signs of one example's inputs and outputs, from one draw.

        They are the same at all positions of an example: it keeps one set of
        weights, as a kernel that is shared between positions must.
        """
        axis = self._channel_axis
        sizes = inputs.shape[axis], outputs.shape[axis]
        # Random numbers cost more than arithmetic, so a word gives 16 signs.
        words = keras.random.randint(
            (ops.shape(inputs)[0], -(-sum(sizes) // _BITS), 1),
            0,
            2**_BITS,
            dtype="int32",
            seed=self.seed_generators[0].per_example(),
        )
        masks = ops.convert_to_tensor([2**i for i in range(_BITS)], dtype="int32")
        signs = self._cast(ops.where(ops.bitwise_and(words, masks) > 0, 1.0, -1.0))
        signs = ops.reshape(signs, (ops.shape(signs)[0], signs.shape[1] * _BITS))

        def spread(signs):
            shape = [ops.shape(signs)[0]] + [1] * (len(inputs.shape) - 1)
            shape[axis] = signs.shape[-1]
            return ops.reshape(signs, shape)

        split = sizes[0], sum(sizes)
        return spread(signs[:, : split[0]]), spread(signs[:, split[0] : split[1]])

    def _local_reparameterization(self, inputs):
        posterior = self.posterior
        mean = posterior.unpack(posterior.loc())
        scale = posterior.unpack(posterior.marginal_scale())
        outputs = self._affine(inputs, mean["kernel"], mean.get("bias"))
        # The square of a half precision input overflows at 256.
        wide = ops.cast(inputs, at_least_float32(self.compute_dtype))
        variance = self._linear(ops.square(wide), ops.square(scale["kernel"]))
        if "bias" in scale:
            variance = self._add_bias(variance, ops.square(scale["bias"]))
        noise = keras.random.normal(
            ops.shape(outputs),
            dtype=keras.backend.standardize_dtype(variance.dtype),
            seed=self.seed_generators[0].per_example(),
        )
        # An input of zeros without a random bias has no variance; the root
        # has an infinite gradient there.
        spread = ops.sqrt(ops.maximum(variance, 1e-30)) * noise
        return outputs + self._cast(spread)

    def _cast(self, tensor):
        return ops.cast(tensor, self.compute_dtype)

    def _linear(self, inputs, kernel):
        """The map that the kernel stands for."""
        raise NotImplementedError

    def _plain_layer(self):
        """The Keras layer with the same arguments and no randomness."""
        raise NotImplementedError

    @property
    def _channel_axis(self):
        return -1

    def _add_bias(self, outputs, bias):
        if self._channel_axis == 1:
            bias = ops.reshape(bias, (-1,) + (1,) * (len(outputs.shape) - 2))
        return outputs + bias

    def compute_output_shape(self, input_shape):
        return self._plain_layer().compute_output_shape(input_shape)

    def deterministic(self):
        """The plain Keras layer at the posterior mean, for `to_deterministic`.

        Returns:
            The layer, not built, and the weights to set once it is, or None.
        """
        if not self.built:
            return self._plain_layer(), None
        mean = self.posterior.mean
        if self.bias is not None:
            mean["bias"] = ops.convert_to_numpy(self.bias)
        return self._plain_layer(), list(mean.values())

    def save_own_variables(self, store):
        super().save_own_variables(store)
        save_seed_states(self.seed_generators, store)

    def load_own_variables(self, store):
        super().load_own_variables(load_seed_states(self.seed_generators, store))

    def get_config(self):
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
