"""The last layer with weights of a trained model, and how its output is scored."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers.batches import batches
from keras_uq_layers.conversion import _likelihoods
from keras_uq_layers.conversion import _walk
from keras_uq_layers.conversion._likelihoods import Likelihood
from keras_uq_layers.families import Bernoulli
from keras_uq_layers.families import Categorical
from keras_uq_layers.families import Normal
from keras_uq_layers.families import Poisson
from keras_uq_layers.layers import DistributionHead
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.reading import family_of

KINDS = keras.layers.Dense, DistributionHead
_ACTIVATIONS = keras.layers.Activation, keras.layers.Softmax
_LINEAR = keras.activations.linear
_KNOWN = _LINEAR, keras.activations.softmax, keras.activations.sigmoid
_LIKELIHOODS = {
    Bernoulli: _likelihoods.bernoulli,
    Categorical: _likelihoods.categorical,
    Poisson: _likelihoods.poisson,
}


class LastLayer:
    """The last product of a model with its weights, in float64 on the host.

    Args:
        model: A trained model.

    Attributes:
        layer: The `Dense` or the head.
        inputs: Width of its input.
        units: Number of its outputs, for a head that of its features.
        use_bias: Whether it has a bias.
        compute_dtype: The dtype of its product.
        squares: Sum of the squares of its weights.
        likelihood: The log likelihood in its outputs.

    Raises:
        ValueError: The model does not end in such a layer, is random in front of
            it, or has no known likelihood.
    """

    def __init__(self, model: keras.Model) -> None:
        self.layer, features, activation = _found(model)
        is_head = isinstance(self.layer, Head)
        dense = self.layer.dense if is_head else self.layer
        self._weights = [np.asarray(w, dtype="float64") for w in dense.get_weights()]
        self.inputs, self.units = self._weights[0].shape
        self.use_bias = dense.use_bias
        self.compute_dtype = dense.compute_dtype
        self.squares = sum(float(np.sum(w**2)) for w in self._weights)
        self._features = keras.Model(_keras.symbolic_inputs(model), features)
        self._offset: Any = 0.0
        if is_head and isinstance(self.layer.family, Normal):
            self.likelihood = _likelihoods.normal(self._params)
            return
        if is_head:
            self._offset = to_numpy(self.layer._offset_features())
        self.likelihood = _likelihood_of(model, self.layer, activation)

    def rows(
        self, x: Any, y: Any, batch_size: int | None, verbose: str | int
    ) -> Iterator[tuple[Array, Array]]:
        """Inputs of the layer and targets of each batch, a row for each position."""
        for rows, targets, sample_weight in batches(x, y, batch_size, verbose):
            if targets is None or sample_weight is not None:
                raise ValueError(
                    "`x` and `y` must hold inputs and targets, without weights of "
                    "examples. Received: "
                    + ("no targets" if targets is None else "weights of examples")
                )
            h = _as_rows(self._features.predict_on_batch(rows), self.inputs)
            yield h, _targets(targets, h)

    def outputs(self, h: Array) -> Array:
        return h @ self._weights[0] + sum(self._weights[1:]) + self._offset

    def _params(self, f: Array) -> tuple[Array, Array]:
        """Loc and scale of a head from its features."""
        params = self.layer.params_of(ops.convert_to_tensor(f))
        loc, scale = (to_numpy(part) for part in self.layer.family.split(params))
        return loc.astype("float64"), scale.astype("float64")


def _found(model: keras.Model) -> tuple[Any, Any, Any]:
    """The layer, its symbolic input, and the activation behind it."""
    _walk.check_model(model)
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1:
        raise ValueError(
            "`model` must be a Sequential or Functional model that is built, with one "
            f"output. Of an ensemble, take a member. Received: {model} with "
            f"{len(outputs)} known output(s)"
        )
    # Not `last.input`: the layer may stand in other models, too.
    last, _, inputs = _keras.history_of(outputs[0])
    activation = _separate_activation(last, inputs)
    if activation is not None:
        last, _, inputs = _keras.history_of(inputs[0])
    is_linear = getattr(last, "activation", _LINEAR) is _LINEAR
    known = type(last) in KINDS and last in model.layers
    if not known or not (activation is None or is_linear):
        raise ValueError(
            "`model` must end in a `keras.layers.Dense` or a `uq.DistributionHead`, "
            "perhaps with a softmax or a sigmoid as a layer of its own, not in a "
            f"model or another layer. Received: a model that ends in {last}"
        )
    for layer in _keras.all_layers(model):
        # Keras's own random layers draw in training alone.
        if _keras.seed_generators_of(layer) and not _keras.is_keras(layer):
            raise ValueError(
                "`model` must not be random in front of its last layer. Give "
                f"`uq.to_deterministic(model)`. Received: {layer}"
            )
    return last, inputs[0], activation or getattr(last, "activation", _LINEAR)


def _separate_activation(layer: Any, inputs: list[Any]) -> Any:
    """The activation of a layer that is nothing else, over the last axis, or None."""
    if isinstance(layer, keras.layers.Softmax):
        last_axes = -1, len(inputs[0].shape) - 1
        return keras.activations.softmax if layer.axis in last_axes else None
    if isinstance(layer, keras.layers.Activation):
        return layer.activation if layer.activation in _KNOWN else None
    return None


def _likelihood_of(model: keras.Model, last: Any, activation: Any) -> Likelihood:
    """What the head, or the last activation and the compiled loss, say."""
    is_plain = not isinstance(last, Head) and activation is _LINEAR
    if is_plain and _is_squared_error(getattr(model, "loss", None)):
        return _likelihoods.unit_normal
    family = family_of(model)
    # Of a layer with an activation of another kind, the logits are not known.
    if activation in _KNOWN and type(family) in _LIKELIHOODS:
        return _LIKELIHOODS[type(family)]
    raise ValueError(
        "`model` must end in a head of the family 'normal', 'categorical', "
        "'bernoulli' or 'poisson', in a softmax, in a sigmoid, or in a linear layer "
        "and be compiled with a cross entropy or the mean squared error. Received: a "
        f"model of the family {family!r} that ends in {last} with the activation "
        f"{activation.__name__}"
    )


def _is_squared_error(loss: Any) -> bool:
    if not isinstance(loss, (str, keras.losses.Loss)) and not callable(loss):
        return False
    found = keras.losses.get(loss)
    name = getattr(found, "name", None) or getattr(found, "__name__", "")
    return name == "mean_squared_error"


def _as_rows(values: Any, width: int) -> Array:
    """`(N, ..., width)` as `(positions, width)`, finite float64."""
    rows = np.asarray(values, dtype="float64").reshape(-1, width)
    if not np.isfinite(rows).all():
        raise ValueError(
            "`x` must have finite features in front of the last layer. Received: "
            f"{np.count_nonzero(~np.isfinite(rows))} NaN or infinite value(s)"
        )
    return rows


def _targets(y: Any, h: Array) -> Array:
    """Targets with a row for each position of the features."""
    targets = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if not np.isfinite(targets).all():
        raise ValueError("`y` must be finite. Received: NaN or infinite values")
    if targets.shape[:1] == (len(h),):
        return targets
    # Positions of a sequence or an image: labels, or a last axis of outputs.
    return targets.reshape(len(h), -1)
