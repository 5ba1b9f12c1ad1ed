"""The weight of a KL term, and how the KL of weights reaches the loss."""

from collections.abc import Callable

import keras

from keras_uq_layers import arguments
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.numerics.dtypes import as_loss


def check_kl_weight(kl_weight: float | None) -> float:
    """The weight of a KL of weights, which must be given and not negative."""
    if kl_weight is None:
        raise ValueError(
            "`kl_weight` must be given: 1 / (number of scored training "
            "positions), for example `kl_weight=1 / len(x_train)`, since the "
            "loss of Keras is a mean over positions. Received: kl_weight=None"
        )
    return arguments.non_negative_float("kl_weight", kl_weight)


def add_kl_weight(layer: keras.layers.Layer, value: float) -> None:
    """Gives a layer the variable `kl_weight` and the float `initial_kl_weight`.

    Every layer with a KL calls it in its constructor, not in `build`: the
    callback `KLWarmup` looks for the variable before the first step of
    training builds the layer.
    """
    layer.initial_kl_weight = value
    layer.kl_weight = layer.add_weight(
        name="kl_weight",
        shape=(),
        # Under a mixed policy the KL is computed in float32, too.
        dtype=at_least_float32(layer.variable_dtype),
        initializer=keras.initializers.Constant(value),
        trainable=False,
        autocast=False,
    )


class KLRegularizer(keras.regularizers.Regularizer):
    """Adds the KL of a layer's weights to the loss, as the regularizer of one.

    A KL of weights must enter the loss once per forward pass, however often
    the layer is called in it (shared, in `TimeDistributed`, in a recurrent
    loop). Keras does exactly that with regularizers, on every backend, and
    drops them for a frozen layer. `add_loss` in `call` would count the KL
    once per call.

    Args:
        kl_weight: The variable `kl_weight` of the layer.
        kl: Function that returns the KL in nats, a scalar.
    """

    def __init__(self, kl_weight: keras.Variable, kl: Callable[[], Tensor]):
        self.kl_weight, self.kl = kl_weight, kl

    def __call__(self, x: Tensor) -> Tensor:
        return as_loss(self.kl_weight.value * self.kl())
