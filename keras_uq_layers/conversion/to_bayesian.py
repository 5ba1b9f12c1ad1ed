"""A trained model as one with random weights, to be fine-tuned."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Identifier
from keras_uq_layers.conversion import _walk
from keras_uq_layers.layers import ConcreteDropout
from keras_uq_layers.layers import Conv1DVariational
from keras_uq_layers.layers import Conv2DVariational
from keras_uq_layers.layers import Conv3DVariational
from keras_uq_layers.layers import DenseVariational
from keras_uq_layers.layers import Variational
from keras_uq_layers.layers._always_drops import AlwaysDrops
from keras_uq_layers.layers._head import Head
from keras_uq_layers.layers._kl import check_kl_weight
from keras_uq_layers.layers._variational_layer import ESTIMATORS
from keras_uq_layers.layers._variational_layer import VariationalLayer
from keras_uq_layers.posteriors import get_posterior
from keras_uq_layers.priors import INITIAL_WEIGHTS
from keras_uq_layers.priors import NormalPrior

Select = Callable[[keras.layers.Layer], bool]

# The layers of Keras that multiply their inputs by a kernel, or look them up.
CONVERTED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.SimpleRNN,
    keras.layers.SimpleRNNCell,
    keras.layers.GRU,
    keras.layers.GRUCell,
    keras.layers.LSTM,
    keras.layers.LSTMCell,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
)
_WITH_ESTIMATORS: dict[type, type[VariationalLayer]] = {
    keras.layers.Dense: DenseVariational,
    keras.layers.Conv1D: Conv1DVariational,
    keras.layers.Conv2D: Conv2DVariational,
    keras.layers.Conv3D: Conv3DVariational,
}
# What the layers with estimators do not have. `Variational` keeps it.
_WITHOUT_ESTIMATORS = (
    "activity_regularizer",
    "bias_constraint",
    "bias_regularizer",
    "kernel_constraint",
    "kernel_regularizer",
    "lora_alpha",
    "lora_rank",
    "quantization_config",
)
_LOW_RANK_KERNELS = "(^|/)lora_"
_RANDOM = (VariationalLayer, Variational, ConcreteDropout)
# They answer for the layers inside of them.
_WHOLE = (*_RANDOM, AlwaysDrops, Head)
# The layers of Keras whose config describes the layers inside of them.
_CONTAINERS = (
    keras.Model,
    keras.layers.Bidirectional,
    keras.layers.StackedRNNCells,
    keras.layers.Wrapper,
)


def to_bayesian(
    model: keras.Model,
    *,
    kl_weight: float,
    layers: str | type | Select | Iterable[str | type] | None = None,
    posterior: Identifier = "mean_field",
    prior_scale: float = 1.0,
    estimator: str | None = None,
    initial_scale: float | None = None,
) -> keras.Model:
    """The same model with uncertain weights, which start at the trained ones.

    Each weight of the chosen layers becomes a normal distribution around its
    trained value. Compile the result and train it a little longer: the data
    then decide how sure each weight is, and `uq.predict` finds an epistemic
    part. The loss of the model may stay as it is, if it is a negative log
    likelihood: a cross entropy, or one of this library.

    ```
    w ~ N(loc, scale),   loc = w_trained and scale = initial_scale at the start
    loss += kl_weight * KL(N(loc, scale) || N(w_trained, prior_scale))
    ```

    The prior is centred at the trained weights, too (MOPED, Krishnan et al.
    2020): what the model has learned is kept unless the data say otherwise.

    `Dense` and `Conv1D` to `Conv3D` become `uq.DenseVariational` and
    `uq.Conv1DVariational` to `uq.Conv3DVariational`, which have estimators of
    low variance. Other layers, and those with a regularizer, a constraint or
    LoRA, are wrapped in `uq.Variational` and keep all of that. Layers are found
    at any depth: in nested models, shared layers, `TimeDistributed`,
    `Bidirectional`, `RNN` and the members of an `Ensemble`.

    Of a layer with `enable_lora`, only the low-rank kernels become random. So
    `layers=lambda layer: getattr(layer, "lora_enabled", False)` makes a large
    model Bayesian by few numbers.

    `uq.to_deterministic` is the way back.

    Args:
        model: A `keras.Sequential` or Functional model, or an `uq.Ensemble` of
            them, built and trained. It is left as it is.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions), for example `1 / len(x_train)`.
        layers: Which layers become random. None: all dense, convolutional,
            embedding, attention and recurrent layers of Keras with trainable
            weights. A name or a class of layers, or a list of them: any layer
            with trainable weights, also your own. A function from a layer with
            trainable weights to a boolean. Normalization layers and heads such
            as `uq.DistributionHead` stay as they are unless they are chosen. A
            layer of your own that holds others in a way that its config does
            not show must be chosen itself, and is wrapped as a whole.
        posterior: `"mean_field"`, `"low_rank"`, `"kronecker"`,
            `"full_covariance"` or an object of `uq.posteriors`.
        prior_scale: Standard deviation of the normal prior. A small one, such
            as `initial_scale`, keeps the model close to the trained one. With 1
            the scales of the weights grow, the longer the training.
        estimator: `"local_reparameterization"`, `"flipout"` or
            `"reparameterization"`, for the layers that have a choice; None is
            the default of each.
        initial_scale: Standard deviation of every weight at the start. None:
            that of `posterior`, by default a tenth of the Glorot standard
            deviation of the kernel.

    Returns:
        A new model, compiled as `model` is.

    Raises:
        ValueError: `model` is not a Keras model, is not built, or is a
            subclassed model; `layers` matches no layer, or one that cannot be
            random, which the message names; another argument is out of range.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 1)),
    ...         keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...         keras.layers.GlobalAveragePooling2D(),
    ...         keras.layers.Dense(3, activation="softmax", name="last"),
    ...     ]
    ... )
    >>> bayesian = uq.to_bayesian(model, kl_weight=1 / 5000)
    >>> bayesian.get_layer("conv")
    <Conv2DVariational name=conv, built=True>
    >>> bayesian.compile("adam", "sparse_categorical_crossentropy")
    >>> only_last = uq.to_bayesian(model, kl_weight=1 / 5000, layers="last")
    >>> only_last.get_layer("conv")
    <Conv2D name=conv, built=True>

    References:
        Krishnan, Subedar & Tickoo, 2020, "Specifying Weight Priors in Bayesian
        Deep Neural Networks with Empirical Bayes", AAAI, arXiv:1906.05323.
        Wang et al., 2024, "BLoB: Bayesian Low-Rank Adaptation by
        Backpropagation for Large Language Models", NeurIPS, arXiv:2406.11675.
    """
    _walk.check_model(model)
    prior_scale = arguments.positive_float("prior_scale", prior_scale)
    start = get_posterior(posterior)
    if initial_scale is not None:
        start.initial_scale = arguments.positive_float("initial_scale", initial_scale)
    if estimator is not None:
        arguments.one_of("estimator", estimator, ESTIMATORS)
    options = {
        "kl_weight": check_kl_weight(kl_weight),
        "posterior": start,
        "prior": NormalPrior(prior_scale, loc=INITIAL_WEIGHTS),
    }
    chosen = _choose(model, layers)

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if _key(layer) not in chosen:
            return None
        return _random_counterpart(layer, options, estimator)

    classes = {cls for cls, _ in chosen}
    return _walk.convert(
        model, classes.__contains__, counterpart, _set_means, whole=_WHOLE
    )


# Which layers


def _key(layer: keras.layers.Layer) -> tuple[type, str]:
    """What a layer has in common with its config."""
    return type(layer), layer.name


def _choose(model: keras.Model, layers: Any) -> set[tuple[type, str]]:
    """The keys of the layers that `layers` selects."""
    for layer in _keras.all_layers(model):
        if isinstance(layer, CONVERTED) and not layer.built:
            raise ValueError(
                "`model` must be built: call it on data, or begin it with "
                f"`keras.Input`. Received: {model} with {layer}"
            )
    select = _selector(model, layers)
    chosen: set[tuple[type, str]] = set()
    others: set[tuple[type, str]] = set()
    for layer, is_chosen in _visit(model, select):
        (chosen if is_chosen else others).add(_key(layer))
    if not chosen:
        raise ValueError(
            "`layers` must select a layer with trainable weights: of None, a dense, "
            "convolutional, embedding, attention or recurrent layer of Keras. "
            f"Received: layers={layers!r} for {model}"
        )
    for cls, name in chosen & others:
        raise ValueError(
            "`layers` must treat layers of the same class and name alike, or they "
            f"must get different names. Received: two layers {name!r} of class "
            f"{cls.__name__}"
        )
    return chosen


def _visit(
    layer: keras.layers.Layer, select: Select
) -> Iterator[tuple[keras.layers.Layer, bool]]:
    """Each layer and whether it is selected; not the layers in one that is."""
    is_chosen = _obstacle(layer) is None and select(layer)
    yield layer, is_chosen
    if not is_chosen and not isinstance(layer, _WHOLE) and _is_open(layer):
        for part in _keras.parts_of(layer):
            yield from _visit(part, select)


def _is_open(layer: keras.layers.Layer) -> bool:
    """Whether layers inside of a layer can be chosen on their own."""
    described = isinstance(layer, _CONTAINERS) or type(layer) is keras.layers.RNN
    return described or not _keras.is_keras(layer)


def _obstacle(layer: keras.layers.Layer) -> str | None:
    """Why the weights of a layer cannot become random, or None."""
    if isinstance(layer, keras.Model):
        return "is a model, whose layers can be chosen"
    if isinstance(layer, _RANDOM):
        return "is random already"
    if getattr(layer, "quantization_mode", None) is not None:
        return "is quantized"
    if not layer.trainable_weights:
        return "has no trainable weights"
    return None


def _selector(model: keras.Model, layers: Any) -> Select:
    """The function that says whether a layer becomes random."""
    if layers is None:
        return lambda layer: isinstance(layer, CONVERTED)
    if callable(layers) and not isinstance(layers, type):
        return layers
    wanted = [layers] if isinstance(layers, (str, type)) else layers
    if not isinstance(wanted, (list, tuple, set)) or not all(
        isinstance(one, (str, type)) for one in wanted
    ):
        raise arguments.error(
            "layers", "None, names and classes of layers, or a function", layers
        )
    for one in wanted:
        _check_matches(model, one)
    return lambda layer: any(_matches(layer, one) for one in wanted)


def _matches(layer: keras.layers.Layer, wanted: str | type) -> bool:
    if isinstance(wanted, str):
        return layer.name == wanted
    return isinstance(layer, wanted)


def _check_matches(model: keras.Model, wanted: str | type) -> None:
    """Raises where a name or a class matches no layer that can be random."""
    found = [layer for layer in _keras.all_layers(model) if _matches(layer, wanted)]
    if not found:
        names = ", ".join(repr(layer.name) for layer in model.layers)
        raise ValueError(
            f"`layers` must match layers of the model. Received: {wanted!r}, and the "
            f"model has {names}"
        )
    obstacles = [_obstacle(layer) for layer in found]
    if None not in obstacles:
        raise ValueError(
            "`layers` must select layers with weights that can be random. Received: "
            f"{wanted!r}, and {found[0]} of class {type(found[0]).__name__} "
            f"{obstacles[0]}"
        )


# What they become


def _random_counterpart(
    layer: keras.layers.Layer, options: dict[str, Any], estimator: str | None
) -> keras.layers.Layer:
    config = layer.get_config()
    cls = _WITH_ESTIMATORS.get(type(layer))
    if cls is not None and not any(config.get(name) for name in _WITHOUT_ESTIMATORS):
        shared = {k: v for k, v in config.items() if k not in _WITHOUT_ESTIMATORS}
        return cls(**shared, **options, estimator=estimator)
    low_rank = _LOW_RANK_KERNELS if config.get("lora_rank") else None
    copy = type(layer).from_config(config)
    return Variational(copy, name=layer.name, weights=low_rank, **options)


def _set_means(source: keras.layers.Layer, target: Any) -> None:
    """Posterior means and centres of the priors at the weights of a layer."""
    if isinstance(target, Variational):
        target.layer.set_weights(source.get_weights())
    else:
        # A copy: on JAX, training would free a buffer that two models share.
        target.kernel.assign(ops.copy(source.kernel))
        if target.bias is not None:
            target.bias.assign(ops.copy(source.bias))
    target.random_weights.center_priors()
