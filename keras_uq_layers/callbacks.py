"""Callbacks for training."""

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import _namespace
from keras_uq_layers import arguments

if TYPE_CHECKING:
    from keras_uq_layers.doctor.callback import Doctor

__all__ = ["Doctor", "KLWarmup"]


class KLWarmup(keras.callbacks.Callback):
    """Raises the weight of the KL from a start to its value, epoch by epoch.

    ```
    kl_weight = value * (start + (1 - start) * min(1, epoch / epochs))
    ```

    Early in training the KL may win over the likelihood. Weights or latent
    dimensions then collapse to the prior, and do not recover. The warm-up acts
    on every layer with a variable `kl_weight`. For a layer of this package
    `value` is the `kl_weight` that it was made with, for your own layer it is
    the value before the first epoch. Since the weight is a variable, no step
    is traced again.

    The weight follows the number of the epoch alone: to resume, pass
    `initial_epoch` to `fit`, as for any schedule of Keras.

    The weight in force is in the logs of each epoch: as `kl_weight` where all
    layers have the same, otherwise as `kl_weight/<layer name>`. Losses and
    validation losses of epochs with different weights do not compare: let
    `EarlyStopping` and `ModelCheckpoint` begin after the warm-up
    (`start_from_epoch=epochs`), or watch a metric without the KL. After
    training that ends within the warm-up, the weight stays where it was.

    Args:
        epochs: Number of epochs until the full weight, a positive integer.
        start: Share of the full weight in the first epoch, in `[0, 1]`.

    Raises:
        ValueError: An argument is out of its range; or, when training begins,
            the model has no layer with a `kl_weight`.

    Example:

    >>> warmup = uq.callbacks.KLWarmup(epochs=10)
    >>> warmup.factor(0), warmup.factor(5), warmup.factor(20)
    (0.0, 0.5, 1.0)

    References:
        Sonderby et al., 2016, "Ladder Variational Autoencoders", NeurIPS,
        arXiv:1602.02282, section 2.3.
    """

    def __init__(self, epochs: int, start: float = 0.0):
        super().__init__()
        self.epochs = arguments.positive_int("epochs", epochs)
        self.start = arguments.probability("start", start)
        # Name, variable and full weight of each layer with a KL.
        self._values: list[tuple[str, keras.Variable, float]] = []
        self._first: dict[int, float] = {}

    def factor(self, epoch: int) -> float:
        """Share of the full weight in an epoch, counted from 0."""
        return self.start + (1.0 - self.start) * min(1.0, epoch / self.epochs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Looked for in each epoch: the first one may build layers.
        self._values = [
            (layer.name, layer.kl_weight, self._full_value(layer))
            for layer in _keras.all_layers(self.model)
            if isinstance(getattr(layer, "kl_weight", None), keras.Variable)
        ]
        if not self._values:
            raise ValueError(
                "The model must have a layer with a `kl_weight` for `KLWarmup`. "
                f"Received: model={self.model.name!r}"
            )
        for _, variable, value in self._values:
            variable.assign(value * self.factor(epoch))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is None:
            return
        differ = len({value for _, _, value in self._values}) > 1
        for name, variable, _ in self._values:
            key = f"kl_weight/{name}" if differ else "kl_weight"
            logs[key] = float(ops.convert_to_numpy(variable))

    def _full_value(self, layer: keras.layers.Layer) -> float:
        # In a model saved during a warm-up the variable of one of our layers
        # holds the weight of that moment.
        if hasattr(layer, "initial_kl_weight"):
            return layer.initial_kl_weight
        value = float(ops.convert_to_numpy(layer.kl_weight))
        return self._first.setdefault(id(layer.kl_weight), value)


_namespace.define(__name__, lazy={"Doctor": "keras_uq_layers.doctor.callback"})
