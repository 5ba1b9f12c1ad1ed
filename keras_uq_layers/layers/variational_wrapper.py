import functools
import inspect
import math
import re
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
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
    """Gives the weights of any Keras layer a mean and a scale each.

    The weights are drawn anew at each call, so that repeated predictions
    differ where the data leave the weights open.

    ```
    y = layer(x; weights),   weights ~ posterior
    loss += kl_weight * KL(posterior || prior)
    ```

    The posterior means are the weights of `layer` itself, so that
    initializers, pretrained weights and constraints work as always. The
    wrapper adds the scales. One set of weights is drawn per call, in training
    and at inference. A recurrent layer, or a cell inside `keras.layers.RNN`,
    keeps one draw over a sequence. For dense and convolutional layers
    `uq.DenseVariational` and `uq.Conv2DVariational` have estimators of lower
    variance.

    Regularizers of `layer` act on the means. A normal prior shrinks the means
    already; a regularizer shrinks them a second time.

    With `trainable = False` neither means nor scales are trained, and the KL
    is not part of the loss. The weights are still drawn.

    Args:
        layer: Any layer with trainable weights: `keras.layers.LSTM`, `GRU`,
            `Bidirectional`, `Embedding`, `MultiHeadAttention`, your own, a
            whole `Sequential`.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions). It is held as a variable, so that a callback may
            change it.
        weights: Which weights are random: None for all trainable ones, or a
            regular expression or a list of them. A weight is random if an
            expression is found in its path below `layer`, such as
            `"lstm_cell/kernel"`.
        posterior: `"mean_field"`, `"low_rank"`, `"kronecker"`,
            `"full_covariance"` or an object of `uq.posteriors`.
        prior: `"normal"`, which is N(0, 1), `"scale_mixture"` or an object of
            `uq.priors`.
        seed: Integer seed of the draws, or None.
        log_marginal_likelihood: What `uq.to_laplace` found, or None.
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
        layer: keras.layers.Layer,
        *,
        kl_weight: float | None = None,
        weights: str | list[str] | None = None,
        posterior: Identifier = "mean_field",
        prior: Identifier = "normal",
        seed: int | None = None,
        log_marginal_likelihood: float | None = None,
        **kwargs: Any,
    ):
        if not isinstance(layer, keras.layers.Layer):
            raise arguments.error("layer", "a Keras layer", layer)
        policy = keras.dtype_policies.get(kwargs.pop("dtype", layer.dtype_policy))
        if policy != layer.dtype_policy:
            raise arguments.error(
                "dtype", f"that of `layer`, {layer.dtype_policy.name!r}", policy.name
            )
        # Keras reads the arguments of a layer from these signatures: that of
        # `call` in the constructor below, that of `build` in the first call.
        self.call = functools.partial(type(self)._call, self)
        for method, inner in ((self.call, layer.call), (self.build, layer.build)):
            setattr(method, "__signature__", inspect.signature(inner))  # noqa: B010
        # No autocast here, since `layer` casts its inputs itself.
        super().__init__(layer, dtype=policy, autocast=False, **kwargs)
        add_kl_weight(self, check_kl_weight(kl_weight))
        self.patterns = self._check_patterns(weights)
        self.posterior = get_posterior(posterior)
        self.prior = get_prior(prior)
        self.seed = seed
        self.log_marginal_likelihood = log_marginal_likelihood
        self.random_weights = RandomWeights(
            self.posterior, {None: self.prior}, self.kl_weight, seed
        )
        self.seed_generators = self.random_weights.generators
        self.supports_masking = layer.supports_masking
        self._sequence_draw: dict[str, Tensor] | None = None
        self._random_indices: list[int] | None = None

    @staticmethod
    def _check_patterns(weights: Any) -> list[str] | None:
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

    def build(self, *args: Any, **kwargs: Any) -> None:
        parts = _keras.all_layers(self.layer)
        alphas = [getattr(part, "lora_alpha", None) for part in parts]
        self._build_layer(*args, **kwargs)
        for part, alpha in zip(parts, alphas, strict=False):
            if alpha is not None:
                _keep_low_rank_kernels(part, alpha)
        chosen = self._choose_weights()
        shapes = {path: tuple(v.shape) for path, v in chosen.items()}
        order = [id(v) for v in _keras.trainable_when_built(self.layer)]
        # A saved file holds numbers, since names may differ in the loaded model.
        self._random_indices = [order.index(id(v)) for v in chosen.values()]
        self.random_weights.build(self.add_weight, chosen, _glorot_scales(shapes))

    def _build_layer(self, *args: Any, **kwargs: Any) -> None:
        layer = self.layer
        if not (layer.built or _keras.is_default(layer.build)):
            layer.build(*args, **kwargs)
            layer.built = True
        if not all(part.built for part in _keras.all_layers(layer)):
            # The first call builds the other parts.
            shapes = (*args, *kwargs.values())
            layer(*(keras.KerasTensor(s, dtype=self.compute_dtype) for s in shapes))

    def _choose_weights(self) -> dict[str, keras.Variable]:
        """Dict from the path below `layer` to the variable that is random."""
        variables = _keras.trainable_when_built(self.layer)
        if self._random_indices is not None:
            return _by_path([variables[i] for i in self._random_indices], self.layer)
        if self.trainable:
            # Frozen parts stay as they are. If the wrapper itself is frozen,
            # that says nothing about its parts.
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

    def kl(self) -> Tensor:
        """KL divergence from the posterior to the prior, in nats: a scalar."""
        return self.random_weights.kl()

    def _draw(self) -> dict[str, Tensor]:
        with _keras.without_autocast():
            return self.random_weights.draw()

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        draw = self._sequence_draw or self._draw()
        means = self.posterior.mean_weights
        drawn = {id(v): draw[path] for path, v in means.items()}
        variables = self.layer.variables
        with _keras.without_autocast():
            # A nested `StatelessScope` does not inherit values from the outer
            # one. So every variable is mapped here.
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

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
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

    def get_dropout_mask(self, step_input: Tensor) -> None:
        # A sequence begins. The draw is made here, outside of the loop over
        # its steps: all steps share it, and no state changes in the loop.
        self._sequence_draw = self._draw()
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.get_dropout_mask(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None:
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.get_recurrent_dropout_mask(step_input)

    def reset_dropout_mask(self) -> None:
        self._sequence_draw = None
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        if isinstance(self.layer, _keras.DropoutRNNCell):
            self.layer.reset_recurrent_dropout_mask()

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array] | None]:
        """The wrapped layer at the posterior mean, for `to_deterministic`.

        Returns:
            A copy of `layer` with the name of this wrapper, and the weights
            to set once it is built, or None.
        """
        config = {**self.layer.get_config(), "name": self.name}
        weights = self.layer.get_weights() if self.built else None
        return type(self.layer).from_config(config), weights

    def get_build_config(self) -> Config | None:
        if not self.built:
            return None
        return {**self._shapes_config(), "random": self._random_indices}

    def _shapes_config(self) -> Config:
        """The shapes, in the form in which `layer` itself records them."""
        shapes = _keras.build_shapes(self)
        names = inspect.signature(self.build).parameters
        shapes.update(zip(names, shapes.pop("args", ()), strict=False))
        shapes.update(shapes.pop("kwargs", {}))
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config: Config) -> None:
        self._random_indices = config.get("random")
        super().build_from_config(config)

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> "Variational":
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

    def get_config(self) -> Config:
        serialize = keras.saving.serialize_keras_object
        layer = serialize(self.layer)
        # The wrapper builds the layer: on its own, a layer without a `build`
        # method would be loaded without its weights.
        layer.pop("build_config", None)
        return {
            **super().get_config(),
            "layer": layer,
            "kl_weight": self.initial_kl_weight,
            "weights": self.patterns,
            "posterior": serialize(self.posterior),
            "prior": serialize(self.prior),
            "seed": self.seed,
            "log_marginal_likelihood": self.log_marginal_likelihood,
        }


def _by_path(
    variables: list[keras.Variable], layer: keras.layers.Layer
) -> dict[str, keras.Variable]:
    """Dict from the path below `layer` to the variable."""
    paths = {}
    for variable in variables:
        path = variable.path
        if path.startswith(f"{layer.path}/"):
            path = path.removeprefix(f"{layer.path}/")
        else:
            path = path.split(f"{layer.name}/", 1)[-1]
        while path in paths:
            path += "_"
        paths[path] = variable
    return paths


def _keep_low_rank_kernels(layer: keras.layers.Layer, alpha: float) -> None:
    """Lets a layer with `enable_lora` be saved and built as it is.

    Keras 3.15 adds the product of the low-rank kernels to the kernel of a file,
    and loads zeros: a posterior of them would lose its means. And `build` of
    some layers forgets the argument `lora_alpha`.
    """
    layer.lora_alpha = alpha
    for name in ("save_own_variables", "load_own_variables"):
        method = getattr(keras.layers.Layer, name)
        setattr(layer, name, functools.partial(method, layer))


def _glorot_scales(shapes: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """Glorot standard deviations; a vector takes the smallest of the kernels."""

    def of_kernel(shape: tuple[int, ...]) -> float:
        fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return math.sqrt(2.0 / max(fans, 1))

    kernels = [of_kernel(shape) for shape in shapes.values() if len(shape) > 1]
    widest = max(math.prod(shape) for shape in shapes.values())
    vectors = min(kernels, default=math.sqrt(1.0 / max(widest, 1)))
    return {
        path: of_kernel(shape) if len(shape) > 1 else vectors
        for path, shape in shapes.items()
    }
