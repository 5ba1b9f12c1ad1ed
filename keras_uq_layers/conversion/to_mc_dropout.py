"""A trained model with dropout as one of Monte Carlo dropout."""

import random

import keras

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers.conversion import _walk
from keras_uq_layers.layers._always_drops import ALWAYS_DROPPING
from keras_uq_layers.layers._always_drops import AlwaysDrops

_RATES = ("rate", "dropout", "recurrent_dropout")
# A layer that drops at inference already may get another rate.
_COUNTERPARTS = {**ALWAYS_DROPPING, **{cls: cls for cls in ALWAYS_DROPPING.values()}}


def to_mc_dropout(model: keras.Model, rate: float | None = None) -> keras.Model:
    """The same model with dropout that also drops at inference.

    Keras drops in training only. In the result each prediction is one draw
    from an approximate posterior, so that `uq.predict` finds an epistemic part.
    This is Monte Carlo dropout for a model that is trained already.

    `Dropout` becomes `uq.MCDropout`, and `SpatialDropout1D` to `3D` become
    `uq.SpatialMCDropout1D` to `3D`. `GaussianDropout` and `AlphaDropout`, and
    the layers with dropout inside, which are the recurrent layers, their cells
    and the attention layers, stay of their class and always drop. Layers are
    found at any depth: in nested models, `Bidirectional`, `TimeDistributed`,
    `RNN` and the members of an `Ensemble`. All other layers stay as they are:
    `BatchNormalization` keeps its moving statistics at inference.

    `uq.to_deterministic` is the way back.

    Args:
        model: A `keras.Sequential` or Functional model, or an `uq.Ensemble` of
            them, trained with dropout. It is left as it is.
        rate: Rate for all dropout, inside (0, 1), also for that inside of
            recurrent and attention layers. A layer whose rate is 0 has no
            dropout and gets none. None: each layer keeps its rates.

    Returns:
        A new model with the same weights, compiled as `model` is.

    Raises:
        ValueError: `model` is not a Keras model, is a subclassed model, has no
            dropout, or has it in a subclass of Keras's layers; `rate` is
            outside (0, 1).

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((3,)), keras.layers.Dropout(0.2), uq.DistributionHead(1)]
    ... )
    >>> mc_model = uq.to_mc_dropout(model)
    >>> mc_model.layers[0]
    <MCDropout name=dropout, built=True>
    >>> prediction = uq.predict(mc_model, np.ones((4, 3)), samples=20, verbose=0)
    >>> bool((prediction.epistemic_std > 0).all())
    True

    References:
        Gal & Ghahramani, 2016, "Dropout as a Bayesian Approximation:
        Representing Model Uncertainty in Deep Learning", ICML,
        arXiv:1506.02142. Gal & Ghahramani, 2016, "A Theoretically Grounded
        Application of Dropout in Recurrent Neural Networks", NeurIPS,
        arXiv:1512.05287.
    """
    if rate is not None:
        rate = arguments.open_probability("rate", rate)
    _walk.check_model(model)
    dropping = [layer for layer in _keras.all_layers(model) if _rates(layer)]
    for layer in dropping:
        if type(layer) not in _COUNTERPARTS:
            raise ValueError(
                "`model` must drop by layers of Keras itself: a subclass may drop "
                f"in a way of its own. Received: {layer} of class "
                f"{type(layer).__name__}"
            )
    if not dropping:
        raise ValueError(
            "`model` must have dropout with a positive rate, such as a layer "
            "`keras.layers.Dropout(0.1)`. Train it with dropout, or use "
            f"`uq.to_bayesian` or `uq.Ensemble` instead. Received: {model}"
        )

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        before = _rates(layer)
        if not before:
            return None
        cls = _COUNTERPARTS[type(layer)]
        rates = {name: rate or value for name, value in before.items()}
        if cls is type(layer) and rates == before:
            return None
        config = layer.get_config()
        if config.get("seed") is None:
            # Without it, dropout inside of Keras's layers draws on PyTorch from
            # global numbers, which neither `predict` nor a file could repeat.
            config["seed"] = random.randint(0, 2**31 - 1)
        return cls.from_config({**config, **rates})

    return _walk.convert(
        model, _COUNTERPARTS.__contains__, counterpart, _copy, whole=AlwaysDrops
    )


def _rates(layer: keras.layers.Layer) -> dict[str, float]:
    """The positive rates of dropout in a layer, by the name of the argument."""
    if not issubclass(type(layer), tuple(_COUNTERPARTS)):
        return {}
    config = layer.get_config()
    return {name: config[name] for name in _RATES if config.get(name)}


def _copy(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    target.set_weights(source.get_weights())
