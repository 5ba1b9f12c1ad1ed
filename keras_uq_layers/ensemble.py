"""Many members as one model."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.families._tag import attached_family
from keras_uq_layers.registration import register
from keras_uq_layers.registration import require_keys


@register("Ensemble")
class Ensemble(keras.Model):
    """A deep ensemble: `M` models of one design, as one Keras model.

    ```
    output = stack of member_m(x) along axis 1
    loss   = mean over m of (loss(y, member_m(x)) + losses of member m)
    ```

    One `fit` trains all members, each from its own initial weights, and one
    file holds them. They share the batches and nothing else: the gradient of a
    member is that of training it alone, divided by M, a factor that Adam and
    its kin do not see. The losses that members add (KL, regularizers) enter as
    their mean, too. Metrics are the mean over members of the metric of each.

    `uq.predict(ensemble, x)` gives the equal-weight mixture of the members
    (of all passes of all members where they are random), `ensemble.predict(x)`
    the params of each. To train each member on its own resample of the data,
    pass `sample_weight=uq.bootstrap_weights(...)`.

    Args:
        builder: Function without arguments that returns a new Keras model,
            called once for each member. With seeded initializers all members
            would start, and stay, the same.
        members: Number of members `M`, a positive integer.
        **kwargs: As for `keras.Model`.

    Attributes:
        members: List of the models.

    Call arguments:
        inputs: Inputs of a member; each gets the same.
        training: Boolean, passed on.

    Input shape:
        As for a member.

    Output shape:
        `(batch, M, ...)` where a member has `(batch, ...)`.

    In `fit` and `evaluate`, `y` is as for one member, and `sample_weight` has
    the shape `(N,)` or `(N, 1)`, for all members alike, or `(N, M, ...)`.

    Raises:
        ValueError: `members` is not a positive integer, `builder` does not
            return a new model at each call, or the outputs of the members
            differ in shape.

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

    def __init__(self, builder, members=5, **kwargs):
        if not callable(builder):
            raise arguments.error(
                "builder", "a function that returns a Keras model", builder
            )
        members = arguments.positive_int("members", members)
        super().__init__(**kwargs)
        self.members = _checked([builder() for _ in range(members)])
        _warn_of_twins(self.members)

    @classmethod
    def from_models(cls, models, **kwargs):
        """An ensemble of models that exist already, trained apart perhaps.

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
        models = list(models)
        if not models:
            raise arguments.error("models", "a sequence of Keras models", models)
        ensemble = cls.__new__(cls)
        super(Ensemble, ensemble).__init__(**kwargs)
        ensemble.members = _checked(models)
        return ensemble

    def build(self, input_shape):
        for member in self.members:
            if not member.built:
                member.build(input_shape)

    def call(self, inputs, training=None):
        outputs = [member(inputs, training=training) for member in self.members]
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
        return attach_family(stacked, attached_family(outputs[0]))

    def compute_output_shape(self, input_shape):
        shape = self.members[0].compute_output_shape(input_shape)
        return (shape[0], len(self.members), *shape[1:])

    # Training

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        losses = []
        if self._compile_loss is not None:
            for m in range(len(self.members)):
                weight = self._member_weight(sample_weight, m)
                loss = self._compile_loss(y, _of_member(y_pred, m), weight)
                if loss is not None:
                    losses.append(loss)
        losses.extend(self._aggregate_additional_loss(loss) for loss in self.losses)
        if not losses:
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`."
            )
        return ops.sum(ops.stack(losses)) / len(self.members)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for m in range(len(self.members)):
            weight = self._member_weight(sample_weight, m)
            logs = super().compute_metrics(x, y, _of_member(y_pred, m), weight)
        return logs

    def _member_weight(self, sample_weight, m):
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

    def get_config(self):
        # The builder may be any function: its results are saved instead.
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "models": [keras.saving.serialize_keras_object(m) for m in self.members],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        require_keys(cls, config, ["models"])
        config = dict(config)
        models = [
            keras.saving.deserialize_keras_object(m, custom_objects=custom_objects)
            for m in config.pop("models")
        ]
        return cls.from_models(models, **config)


def bootstrap_weights(n, members, seed=None):
    """How often each member sees each example: bootstrap resamples, as weights.

    ```
    weights[:, m] ~ Multinomial(n, (1/n, ..., 1/n))
    ```

    Each column is one draw of `n` examples with replacement, as counts; its
    mean is 1, so that learning rates and KL weights keep their meaning. A
    random initialization alone often makes members differ enough; resamples
    add the variance of the data, at the price of about a third of the
    examples for each member.

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


def _of_member(y_pred, m):
    output = y_pred[:, m]
    mask = _keras.mask_of(y_pred)
    if mask is not None:
        _keras.attach_mask(output, mask[:, m])
    return attach_family(output, attached_family(y_pred))


def _checked(models):
    seen = set()
    for model in models:
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"The members of an ensemble must be Keras models. Received: {model!r}"
            )
        layers = {
            id(layer)
            for layer in model._flatten_layers()
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


def _warn_of_twins(models):
    """Two members of equal initial weights would be one, counted twice."""
    first = [ops.convert_to_numpy(w) for w in models[0].trainable_weights]
    if len(models) < 2 or not any(w.size > 1 and np.ptp(w) > 0 for w in first):
        return
    second = [ops.convert_to_numpy(w) for w in models[1].trainable_weights]
    if all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        warnings.warn(
            "The members of this ensemble start from equal weights and will stay "
            "equal when trained on the same data: do not give the initializers "
            "in `builder` a fixed seed.",
            stacklevel=3,
        )
