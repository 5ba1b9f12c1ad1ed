"""A model without its randomness."""

import keras

from keras_uq_layers import _keras
from keras_uq_layers.conversion import _walk

_PROTOCOL = "deterministic"


def to_deterministic(model: keras.Model) -> keras.Model:
    """The same model with every random layer at its mean.

    A variational layer becomes the plain Keras layer at its posterior mean,
    and dropout that acts at inference becomes the identity. Where the model
    calls a random layer of Keras, such as `keras.layers.GaussianNoise`, with
    `training=True`, the copy calls it with `training=False`. A nested model
    that is called so and holds a random layer is then at inference as a whole,
    its batch normalization, too.

    The result has the same architecture and names, is faster, and does not
    need this package where the model was random. Nested models, shared layers
    and layers inside wrappers such as `TimeDistributed` and `RNN` are
    converted, too. An `Ensemble` becomes the ensemble of its members at their
    means.

    The prediction at the mean weights is not the mean of the predictions, and
    it carries no epistemic uncertainty.

    A layer takes part by a method `deterministic()`, which returns the layer
    that replaces it, not built, and the list of weights to set once it is
    built, or None. Your own layers may have one.

    Args:
        model: A `keras.Sequential` or Functional model, or an `uq.Ensemble` of
            them. It is left as it is.

    Returns:
        A new model with weights of its own, compiled as `model` is.

    Raises:
        ValueError: `model` is not a Keras model, is a subclassed model, or holds
            a random layer without a deterministic counterpart.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((3,)), uq.DenseVariational(2, kl_weight=0.01, name="hidden")]
    ... )
    >>> uq.to_deterministic(model).layers
    [<Dense name=hidden, built=True>]
    """
    _walk.check_model(model)
    for layer in _keras.all_layers(model):
        _check_layer(layer)
    copy = _walk.convert(model, _has_protocol, _counterpart, _set_mean_weights)
    _keras.call_at_inference(copy)
    return copy


def _check_layer(layer: keras.layers.Layer) -> None:
    if _has_protocol(type(layer)) or _keras.is_keras(layer):
        return  # Keras's own random layers draw in training alone.
    if _keras.seed_generators_of(layer):
        raise ValueError(
            "`model` must say what its random layers are without randomness: "
            f"{type(layer).__name__} draws random numbers. Give it a method "
            "`deterministic()` that returns a layer and its weights, or None. "
            f"Received: {layer}"
        )


def _has_protocol(cls: type) -> bool:
    return hasattr(cls, _PROTOCOL)


def _counterpart(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """The layer without randomness; None for one that has none already."""
    other = getattr(layer, _PROTOCOL)()[0]
    if type(other) is type(layer) and other.get_config() == layer.get_config():
        return None
    return other


def _set_mean_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    weights = getattr(source, _PROTOCOL)()[1]
    if weights:
        target.set_weights(weights)
