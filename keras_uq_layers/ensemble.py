"""Many members as one model."""

import hashlib
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family
from keras_uq_layers.registration import register
from keras_uq_layers.registration import require_keys


@register("Ensemble")
class Ensemble(keras.Model):
    """A deep ensemble: `M` models of one design, trained and saved as one model.

    ```
    output   = stack of member_m(x) along axis 1
    loss     = mean over m of (loss(y, member_m(x)) + losses of member m)
    gradient = that of the sum over m
    ```

    One `fit` trains all members, each from its own initial weights, and one
    file holds them. The members share the batches and nothing else: each has
    the gradient that it would have alone, so that a learning rate, `clipnorm`
    and `clipvalue` mean the same as for one model. Only `global_clipnorm`
    differs, because Keras takes that norm over all weights of all members.
    The losses that members add (KL, regularizers) are part of this. Metrics,
    and the `loss` in the logs, are means over the members.

    `uq.predict(ensemble, x)` gives the equal-weight mixture of the members
    (of all passes of all members where they are random).
    `ensemble.predict(x)` gives the params of each member. To train each
    member on its own resample of the data, pass
    `sample_weight=uq.bootstrap_weights(...)`.

    `uq.to_deterministic(ensemble)` is an ensemble of the deterministic
    members. `uq.serving_model(ensemble)` answers with the mean, the standard
    deviation and the interval of the mixture.

    Args:
        builder: Function without arguments that returns a new Keras model. It
            is called once for each member. Its initializers must not have a
            fixed seed, with which all members would start, and stay, equal.
        members: Number of members `M`, a positive integer.
        **kwargs: As for `keras.Model`.

    Attributes:
        members: List of the models.

    Call arguments:
        inputs: Inputs of a member. All members get the same.
        training: Boolean, passed on.

    Input shape:
        As for a member.

    Output shape:
        `(batch, M, ...)` where a member has `(batch, ...)`.

    In `fit` and `evaluate`, `y` is as for one member, and `sample_weight` has
    the shape `(N,)` or `(N, 1)`, for all members alike, or `(N, M, ...)`.

    Raises:
        ValueError: `members` is not a positive integer, `builder` is a model
            or does not return a new model at each call, or the outputs of the
            members differ in shape.

    Example:

    >>> def build():
    ...     return keras.Sequential(
    ...         [keras.layers.Dense(8, "tanh"), uq.DistributionHead(1)]
    ...     )
    >>> ensemble = uq.Ensemble(build, members=3)
    >>> ensemble.compile("adam", loss=uq.losses.NegativeLogLikelihood())
    >>> x, y = np.ones((10, 2)), np.ones(10)
    >>> history = ensemble.fit(x, y, verbose=0)
    >>> ensemble.predict(x, verbose=0).shape
    (10, 3, 2)
    >>> uq.predict(ensemble, x, verbose=0).epistemic_std.shape
    (10, 1)

    References:
        Lakshminarayanan, Pritzel & Blundell, 2017, "Simple and Scalable
        Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS,
        arXiv:1612.01474.
    """

    member_axis = 1
    train_function: Any
    _may_be_twins = False

    def __init__(
        self, builder: Callable[[], keras.Model], members: int = 5, **kwargs: Any
    ) -> None:
        if not callable(builder) or isinstance(builder, keras.layers.Layer):
            raise arguments.error(
                "builder",
                "a function that returns a new Keras model at each call, such as "
                "`lambda: keras.models.clone_model(model)`",
                builder,
            )
        members = arguments.positive_int("members", members)
        super().__init__(**kwargs)
        self.members = _checked([builder() for _ in range(members)])
        self._may_be_twins = True
        self._warn_of_twins()

    @classmethod
    def from_models(cls, models: Iterable[keras.Model], **kwargs: Any) -> Self:
        """An ensemble of models that exist already, perhaps trained one by one.

        Args:
            models: Sequence of Keras models with the same inputs and the same
                shape of output. They become the members, not copies of them.
            **kwargs: As for `keras.Model`.

        Returns:
            An `Ensemble`.

        Raises:
            ValueError: No models, or models that share layers.

        Example:

        >>> models = [keras.Sequential([uq.DistributionHead(1)]) for _ in range(2)]
        >>> uq.Ensemble.from_models(models)(np.ones((4, 3))).shape[1]
        2
        """
        models = _checked(models)
        if not models:
            raise arguments.error("models", "a sequence of Keras models", models)
        ensemble = cls.__new__(cls)
        super(Ensemble, ensemble).__init__(**kwargs)
        ensemble.members = models
        return ensemble

    def build(self, input_shape: Any) -> None:
        for member in self.members:
            if not member.built:
                member.build(input_shape)
        self._warn_of_twins()

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        outputs = [member(inputs, training=training) for member in self.members]
        if any(keras.tree.is_nested(output) for output in outputs):
            raise ValueError(
                "The members of an ensemble must have one output each. Received: "
                f"members with outputs in a {type(outputs[0]).__name__}"
            )
        shapes = {tuple(output.shape[1:]) for output in outputs}
        if len(shapes) > 1:
            raise ValueError(
                "The members of an ensemble must have outputs of one shape. "
                f"Received: outputs of shape {sorted(shapes)}, batch axis left out"
            )
        stacked = ops.stack(outputs, axis=1)
        mask = _keras.mask_of(outputs[0])
        if mask is not None:
            # Members have the same inputs, hence the same mask.
            mask = ops.stack([mask] * len(outputs), axis=1)
            _keras.attach_mask(stacked, mask)
        logits = [_keras.logits_of(output) for output in outputs]
        if logits[0] is not None:
            _keras.attach_logits(stacked, ops.stack(logits, axis=1))
        return attach_family(stacked, attached_family(outputs[0]))

    def compute_output_shape(self, input_shape: Any) -> Shape:
        shape = self.members[0].compute_output_shape(input_shape)
        return (shape[0], len(self.members), *shape[1:])

    # Training

    def make_train_function(self, force: bool = False) -> None:
        super().make_train_function(force)
        self._warn_of_twins()
        if self._may_be_twins:
            # TensorFlow builds unbuilt members while it traces the first step.
            step = self.train_function

            def first_step(*args: Any) -> Any:
                self.train_function = step
                logs = step(*args)
                self._warn_of_twins()
                return logs

            self.train_function = first_step

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        losses = [ops.sum(loss) for loss in self.losses]
        compiled_loss = _keras.compiled_loss(self)
        if compiled_loss is not None:
            for m in range(len(self.members)):
                weight = self._member_weight(sample_weight, m)
                loss = compiled_loss(y, _of_member(y_pred, m), weight)
                if loss is not None:  # no output has a loss
                    losses.append(loss)
        if not losses:
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`."
            )
        total = ops.sum(ops.stack(losses))
        # The value of the mean, and the gradient of the sum: a member learns as
        # if alone, and the logs can be compared with those of one model.
        rest = 1.0 - 1.0 / len(self.members)
        return total - rest * ops.stop_gradient(total)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        logs: dict[str, Any] = {}
        for m in range(len(self.members)):
            weight = self._member_weight(sample_weight, m)
            logs = super().compute_metrics(x, y, _of_member(y_pred, m), weight)
        return logs

    def _warn_of_twins(self) -> None:
        """Warns once of equal initial weights: equal members count as one."""
        weights = self.members[0].trainable_weights
        if not self._may_be_twins or not weights or _keras.in_symbolic_scope():
            return
        if _keras.is_traced(ops.sum(weights[0])):
            return  # The values cannot be read yet.
        self._may_be_twins = False
        equal = _equal_members(self.members)
        if equal:
            warnings.warn(
                f"Members {equal} of this ensemble start from equal weights and will "
                "stay equal when trained on the same data: do not give the "
                "initializers in `builder` a fixed seed.",
                stacklevel=3,
            )

    def _member_weight(self, sample_weight: Any, m: int) -> Tensor | None:
        if sample_weight is None:
            return None
        weight = ops.convert_to_tensor(sample_weight)
        shape, members = tuple(weight.shape), len(self.members)
        if len(shape) == 1:
            return weight
        if len(shape) == 2 and shape[1] in (None, 1, members):
            # A graph may know neither 1 nor M: the product is right for both.
            return (weight * ops.ones((1, members), dtype=weight.dtype))[:, m]
        if len(shape) > 2 and shape[1] in (None, members):
            return weight[:, m]
        raise ValueError(
            "`sample_weight` must have one value per example, shape (N,) or (N, 1), "
            f"or one per example and member, shape (N, {members}, ...). "
            f"Received: sample_weight of shape {shape}"
        )

    # Saving

    def get_config(self) -> Config:
        # The builder may be any function. The models that it built are saved.
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "models": [keras.saving.serialize_keras_object(m) for m in self.members],
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: dict[str, Any] | None = None
    ) -> Self:
        require_keys(cls, config, ["models"])
        config = dict(config)
        models = [
            keras.saving.deserialize_keras_object(m, custom_objects=custom_objects)
            for m in config.pop("models")
        ]
        return cls.from_models(models, **config)


def bootstrap_weights(n: int, members: int, seed: int | None = None) -> Array:
    """Bootstrap resamples as weights: how often each member sees each example.

    ```
    weights[:, m] ~ Multinomial(n, (1/n, ..., 1/n))
    ```

    Each column holds the counts of one draw of `n` examples with replacement.
    Its mean is 1, so that learning rates and KL weights keep their meaning.
    Random initial weights alone often make members differ enough. Resamples
    add the variance of the data. Their price: each member never sees about a
    third of the examples.

    Args:
        n: Number of training examples, a positive integer.
        members: Number of members `M`.
        seed: Integer seed, or None.

    Returns:
        Array `(n, M)`, float32, for `ensemble.fit(..., sample_weight=...)`.

    Raises:
        ValueError: `n` or `members` is not a positive integer.

    Example:

    >>> weights = uq.bootstrap_weights(1000, members=5, seed=0)
    >>> weights.shape, float(weights.mean())
    ((1000, 5), 1.0)

    References:
        Breiman, 1996, "Bagging predictors", Machine Learning 24(2),
        doi:10.1007/BF00058655.
    """
    n = arguments.positive_int("n", n)
    members = arguments.positive_int("members", members)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), members)
    return counts.T.astype("float32")


def _of_member(y_pred: Tensor, m: int) -> Tensor:
    output = y_pred[:, m]
    mask = _keras.mask_of(y_pred)
    if mask is not None:
        _keras.attach_mask(output, mask[:, m])
    logits = _keras.logits_of(y_pred)
    if logits is not None:
        _keras.attach_logits(output, logits[:, m])
    return attach_family(output, attached_family(y_pred))


def _checked(models: Iterable[keras.Model]) -> list[keras.Model]:
    models, seen = list(models), set[int]()
    for model in models:
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"The members of an ensemble must be Keras models. Received: {model!r}"
            )
        layers = {
            id(layer)
            for layer in _keras.all_layers(model)
            if not isinstance(layer, keras.layers.InputLayer)
        }
        if layers & seen:
            raise ValueError(
                "The members of an ensemble must not share layers: `builder` must "
                "make a new model, with new layers, at each call. Received: "
                f"a model {model.name!r} with a layer of another member"
            )
        seen |= layers
    return models


def _equal_members(models: list[keras.Model]) -> list[int]:
    """The numbers of the members whose weights another member has, too."""
    twins: dict[str, list[int]] = {}
    for m, model in enumerate(models):
        weights = [ops.convert_to_numpy(w) for w in model.trainable_weights]
        # A model may start from zeros alone on purpose.
        if any(w.size > 1 and np.ptp(w) > 0 for w in weights):
            digest = hashlib.sha256(b"".join(w.tobytes() for w in weights))
            twins.setdefault(digest.hexdigest(), []).append(m)
    return sorted(m for equal in twins.values() if len(equal) > 1 for m in equal)
