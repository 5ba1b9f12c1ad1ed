import functools
import inspect
import math
import re

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers.layers._kl import add_kl_weight
from keras_uq_layers.layers._kl import check_kl_weight
from keras_uq_layers.layers._random_weights import RandomWeights
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.posteriors import get_posterior
from keras_uq_layers.priors import get_prior
from keras_uq_layers.registration import register
from keras_uq_layers.registration import wrapper_from_config


def _of_layer(name: str) -> property:
    """An attribute of the wrapper that is that of `layer`, where it has one."""
    return property(lambda self: getattr(self.layer, name))


@register("Variational")
class Variational(SavedSeeds, keras.layers.Wrapper, _keras.DropoutRNNCell):
    """Makes the weights of any Keras layer random.

    ```
    y = layer(x; weights),   weights ~ posterior
    loss += kl_weight * KL(posterior || prior)
    ```

    The posterior means are the weights of `layer` itself, so that an
    initializer, a pretrained weight and a constraint mean what they always
    do; the wrapper adds the scales. One set of weights is drawn per call, in
    training and at inference: a recurrent layer keeps one sample over a
    sequence, a recurrent cell too, inside `keras.layers.RNN`. For dense and
    convolutional layers `uq.DenseVariational` and `uq.Conv2DVariational` have
    estimators of lower variance.

    Regularizers of `layer` act on the means. A normal prior shrinks them
    already: together they shrink twice.

    With `trainable = False` neither means nor scales are trained and the KL
    is not part of the loss; the weights are still drawn.

    Args:
        layer: Any layer with trainable weights: `keras.layers.LSTM`, `GRU`,
            `Bidirectional`, `Embedding`, `MultiHeadAttention`, your own, a
            whole `Sequential`.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions). It is held as a variable, so that a callback may
            change it.
        weights: Which weights are random: None for all trainable ones, or a
            regular expression, or a list of them, searched in the paths of
            the weights below `layer`, such as `"lstm_cell/kernel"`.
        posterior: `"mean_field"`, `"low_rank"`, `"full_covariance"` or an
            object of `uq.posteriors`.
        prior: `"normal"`, which is N(0, 1), `"scale_mixture"` or an object of
            `uq.priors`.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`. The dtype policy is that of
            `layer`.

    Call arguments:
        As for `layer`.

    Input shape:
        As for `layer`.

    Output shape:
        As for `layer`.

    Raises:
        ValueError: `kl_weight` is missing, `layer` is no layer or has no
            trainable weight, an expression in `weights` matches none, or
            `dtype` differs from that of `layer`.

    Example:

    >>> layer = uq.Variational(keras.layers.LSTM(4), kl_weight=1 / 5000)
    >>> layer(np.ones((2, 5, 3))).shape[-1]
    4
    >>> sorted(layer.posterior.mean)
    ['lstm_cell/bias', 'lstm_cell/kernel', 'lstm_cell/recurrent_kernel']

    References:
        Blundell et al., 2015, "Weight Uncertainty in Neural Networks", ICML,
        arXiv:1505.05424. Fortunato, Blundell & Vinyals, 2017, "Bayesian
        Recurrent Neural Networks", arXiv:1704.02798.
    """

    def __init__(
        self,
        layer,
        *,
        kl_weight=None,
        weights=None,
        posterior="mean_field",
        prior="normal",
        seed=None,
        **kwargs,
    ):
        if not isinstance(layer, keras.layers.Layer):
            raise arguments.error("layer", "a Keras layer", layer)
        policy = keras.dtype_policies.get(kwargs.pop("dtype", layer.dtype_policy))
        if policy != layer.dtype_policy:
            raise arguments.error(
                "dtype", f"that of `layer`, {layer.dtype_policy.name!r}", policy.name
            )
        # Keras takes from the signature which arguments a layer has. `call`
        # is looked at by the constructor below, `build` by the first call.
        self.call = functools.partial(type(self)._call, self)
        self.call.__signature__ = inspect.signature(layer.call)
        self.build.__signature__ = inspect.signature(layer.build)
        # Without autocast: `layer` casts its inputs itself.
        super().__init__(layer, dtype=policy, autocast=False, **kwargs)
        add_kl_weight(self, check_kl_weight(kl_weight))
        self.patterns = self._check_patterns(weights)
        self.posterior = get_posterior(posterior)
        self.prior = get_prior(prior)
        self.seed = seed
        self.random_weights = RandomWeights(
            self.posterior, {None: self.prior}, self.kl_weight, seed
        )
        self.seed_generators = self.random_weights.generators
        self.supports_masking = layer.supports_masking
        self._sequence_draw = None
        self._random_indices = None

    @staticmethod
    def _check_patterns(weights):
        if weights is None:
            return None
        patterns = [weights] if isinstance(weights, str) else weights
        if not isinstance(patterns, (list, tuple)) or not all(
            isinstance(pattern, str) for pattern in patterns
        ):
            raise arguments.error(
                "weights", "None, a regular expression or a list of them", weights
            )
        return list(patterns)

    def build(self, *args, **kwargs):
        self._build_layer(*args, **kwargs)
        chosen = self._choose_weights()
        shapes = {path: tuple(v.shape) for path, v in chosen.items()}
        order = [id(v) for v in _keras.trainable_when_built(self.layer)]
        # By number, in the saved file: names may differ when it is loaded.
        self._random_indices = [order.index(id(v)) for v in chosen.values()]
        self.random_weights.build(self.add_weight, chosen, _glorot_scales(shapes))

    def _build_layer(self, *args, **kwargs):
        layer = self.layer
        if not (layer.built or _keras.is_default(layer.build)):
            layer.build(*args, **kwargs)
            layer.built = True
        if not all(part.built for part in _keras.all_layers(layer)):
            # Parts that are left to the first call.
            shapes = (*args, *kwargs.values())
            layer(*(keras.KerasTensor(s, dtype=self.compute_dtype) for s in shapes))

    def _choose_weights(self):
        """Dict from the path below `layer` to the variable made random."""
        variables = _keras.trainable_when_built(self.layer)
        if self._random_indices is not None:
            return _by_path([variables[i] for i in self._random_indices], self.layer)
        if self.trainable:
            # Without the parts that are frozen. Of a wrapper that is frozen
            # before it is built, all are.
            trained = {id(v) for v in self.layer.trainable_variables}
            variables = [v for v in variables if id(v) in trained]
        paths = _by_path(variables, self.layer)
        if not paths:
            raise ValueError(
                "`layer` must have trainable weights to make random. Received: "
                f"layer={self.layer} with {len(self.layer.weights)} weights, none "
                "of them trainable"
            )
        if self.patterns is None:
            return paths
        for pattern in self.patterns:
            if not any(re.search(pattern, path) for path in paths):
                raise ValueError(
                    "`weights` must match a trainable weight of `layer`, which "
                    f"are {', '.join(map(repr, paths))}. Received: "
                    f"weights={pattern!r}"
                )
        return {
            path: variable
            for path, variable in paths.items()
            if any(re.search(pattern, path) for pattern in self.patterns)
        }

    def kl(self):
        """KL divergence from the posterior to the prior, in nats: a scalar."""
        return self.random_weights.kl()

    def _draw(self):
        with _keras.without_autocast():
            return self.random_weights.draw()

    def _call(self, *args, **kwargs):
        draw = self._sequence_draw or self._draw()
        means = self.posterior.mean_weights
        drawn = {id(v): draw[path] for path, v in means.items()}
        variables = self.layer.variables
        with _keras.without_autocast():
            # All of them: a scope does not look into the one around it.
            values = [
                drawn[id(v)] if id(v) in drawn else ops.convert_to_tensor(v)
                for v in variables
            ]
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            before = [scope.get_current_value(v) for v in variables]
            outputs = self.layer(*args, **kwargs)
        for variable, value in zip(variables, before, strict=True):
            current = scope.get_current_value(variable)
            if current is not value and id(variable) not in drawn:
                variable.assign(current)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def compute_output_shape(self, *args, **kwargs):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *args, **kwargs):
        return self.layer.compute_mask(*args, **kwargs)

    # `keras.layers.Bidirectional` reads these of a recurrent layer.
    go_backwards = _of_layer("go_backwards")
    return_sequences = _of_layer("return_sequences")
    return_state = _of_layer("return_state")
    stateful = _of_layer("stateful")
    states = _of_layer("states")
    reset_state = _of_layer("reset_state")

    # `keras.layers.RNN` reads these of a cell, and calls the four methods below.
    state_size = _of_layer("state_size")
    output_size = _of_layer("output_size")
    get_initial_state = _of_layer("get_initial_state")

    def get_dropout_mask(self, step_input):
        # A sequence begins. Drawn outside of the loop over its steps: one
        # sample for all, and no state that changes inside a compiled loop.
        self._sequence_draw = self._draw()
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.get_dropout_mask(step_input)

    def get_recurrent_dropout_mask(self, step_input):
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.get_recurrent_dropout_mask(step_input)

    def reset_dropout_mask(self):
        self._sequence_draw = None
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self):
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.reset_recurrent_dropout_mask()

    def deterministic(self):
        """The wrapped layer at the posterior mean, for `to_deterministic`.

        Returns:
            A copy of `layer` with the name of this wrapper, and the weights
            to set once it is built, or None.
        """
        config = {**self.layer.get_config(), "name": self.name}
        weights = self.layer.get_weights() if self.built else None
        return type(self.layer).from_config(config), weights

    def get_build_config(self):
        if not self.built:
            return None
        return {**self._shapes_config(), "random": self._random_indices}

    def _shapes_config(self):
        """The shapes as `layer` itself would have recorded them."""
        shapes = _keras.build_shapes(self)
        names = inspect.signature(self.build).parameters
        shapes.update(zip(names, shapes.pop("args", ()), strict=False))
        shapes.update(shapes.pop("kwargs", {}))
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config):
        self._random_indices = config.get("random")
        super().build_from_config(config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if "go_backwards" in config:
            # `Bidirectional` writes it into the config of its second copy.
            inner = {
                **config["layer"]["config"],
                "go_backwards": config.pop("go_backwards"),
            }
            config["layer"] = {**config["layer"], "config": inner}
            if config["seed"] is not None:
                # Otherwise both directions would draw the same noise. The
                # next seed belongs to the draws of the KL.
                config["seed"] += 2
        return wrapper_from_config(cls, config, custom_objects)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        layer = serialize(self.layer)
        # Built by the wrapper, which knows how: on its own, a layer without a
        # `build` method would come back without its weights.
        layer.pop("build_config", None)
        return {
            **super().get_config(),
            "layer": layer,
            "kl_weight": self.initial_kl_weight,
            "weights": self.patterns,
            "posterior": serialize(self.posterior),
            "prior": serialize(self.prior),
            "seed": self.seed,
        }


def _by_path(variables, layer):
    """Dict from the path below `layer` to the variable."""
    paths = {}
    for variable in variables:
        path = variable.path.split(f"{layer.name}/", 1)[-1]
        while path in paths:
            path += "_"
        paths[path] = variable
    return paths


def _glorot_scales(shapes):
    """Glorot standard deviations; a vector takes that of the smallest kernel."""

    def of_kernel(shape):
        fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return math.sqrt(2.0 / max(fans, 1))

    kernels = [of_kernel(shape) for shape in shapes.values() if len(shape) > 1]
    widest = max(math.prod(shape) for shape in shapes.values())
    vectors = min(kernels, default=math.sqrt(1.0 / max(widest, 1)))
    return {
        path: of_kernel(shape) if len(shape) > 1 else vectors
        for path, shape in shapes.items()
    }
