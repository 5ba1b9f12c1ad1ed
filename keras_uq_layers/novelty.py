"""Scores of how unlike the training data an input is.

A score is larger for an input that is more unlike what the model was trained
on. To see how well one tells known rows from unknown ones, take
`keras.metrics.AUC` or `sklearn.metrics.roc_auc_score`.

A `Prediction` has further scores: `entropy`, `mutual_information` and
`epistemic_std`. They ask how much the model doubts its answer. The scores here
ask whether the model knows this kind of input, also where it does not doubt.
"""

import math
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.batches import batches
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.registration import register

__all__ = ["FeatureDensity", "energy"]

_SHARED, _OWN = "shared", "own"


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Novelty score of a classifier from its logits alone: the free energy.

    ```
    energy = -temperature * log(sum over k of exp(logit_k / temperature))
    ```

    It is large where all logits are small. A softmax does not see that: it
    stays the same when a number is added to all logits. The score needs the
    logits; probabilities have lost it.

    Args:
        logits: Tensor `(..., K)`.
        temperature: A positive float. For large values the energy is that of
            the mean logit, for small ones that of the largest.

    Returns:
        Tensor `(...)`, float32 or wider.

    Raises:
        ValueError: `temperature` is not positive and finite.

    Example:

    >>> scores = uq.novelty.energy([[9.0, 0.0], [0.0, 0.0]])
    >>> [round(float(score), 2) for score in scores]
    [-9.0, -0.69]

    References:
        Liu et al., 2020, "Energy-based Out-of-distribution Detection", NeurIPS,
        arXiv:2010.03759.
    """
    temperature = arguments.positive_float("temperature", temperature)
    logits = ops.convert_to_tensor(logits)
    logits = ops.cast(logits, at_least_float32(logits.dtype))
    return -temperature * ops.logsumexp(logits / temperature, axis=-1)


class FeatureDensity:
    """Novelty score from the density of a model's features, given the training
    data: one normal distribution for each class.

    ```
    "shared":  score = min over classes c of |f - mean_c|^2, in units of the
                       covariance that all classes share
    "own":     score = -log(sum over c of p(c) N(f; mean_c, covariance_c))
    ```

    `f` is the output of a layer for one input. With `"shared"` the score is the
    squared Mahalanobis distance to the nearest class; with `"own"` it is the
    negative log density in nats, as in Deep Deterministic Uncertainty (DDU).
    Nothing is trained: `fit` takes one pass over the training data.

    The covariances are shrunk towards a multiple of the identity, by the oracle
    approximating shrinkage of Chen et al. So there may be fewer rows than features,
    and features that never change.

    Args:
        model: A Sequential or Functional model, trained. The layers up to
            `layer` must not be random: take `uq.to_deterministic(model)`.
        layer: The layer whose output is the features: its index in
            `model.layers`, its name, or the layer itself. The default is the
            last but one. Its output has shape `(batch, F)`.
        covariance: `"own"`, one for each class, or `"shared"`, one for all, which
            needs fewer rows. Where classes have features of different spread,
            `"own"` tells unknown inputs better.

    Attributes:
        scorer: After `fit`, a Keras model from inputs to scores. It can be saved
            to a file of its own, loaded elsewhere, and exported.

    Raises:
        ValueError: `model` is no Sequential or Functional model, or not built;
            it has no such layer; the output of the layer is no `(batch, F)`.

    Example:

    >>> inputs = keras.Input((2,))
    >>> hidden = keras.layers.Dense(3, "tanh")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    >>> x, y = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 2
    >>> density = uq.novelty.FeatureDensity(model).fit(x, y, verbose=0)
    >>> density.score(x, verbose=0).shape
    (50,)
    >>> density.scorer.save("density.keras")  # doctest: +SKIP

    References:
        Lee et al., 2018, "A Simple Unified Framework for Detecting
        Out-of-Distribution Samples and Adversarial Attacks", NeurIPS,
        arXiv:1807.03888. Mukhoti et al., 2023, "Deep Deterministic Uncertainty:
        A New Simple Baseline", CVPR, arXiv:2102.11582. Chen et al., 2010, "Shrinkage
        Algorithms for MMSE Covariance Estimation", IEEE Transactions on Signal
        Processing 58(10), arXiv:0907.4698.
    """

    def __init__(
        self,
        model: keras.Model,
        layer: int | str | keras.layers.Layer = -2,
        covariance: str = _OWN,
    ):
        self.covariance = arguments.one_of("covariance", covariance, (_SHARED, _OWN))
        self.features = _feature_model(model, layer)
        self.scorer: keras.Model | None = None

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
    ) -> Self:
        """Sets the mean and the covariance of each class.

        All features are held in memory.

        Args:
            x: Inputs as for `model.fit`: arrays, or an iterable of batches such
                as a `tf.data.Dataset` or a `PyDataset`.
            y: Labels `(N,)` or `(N, 1)`, or one-hot rows `(N, K)`. None: those
                in the batches, or a single class where they hold none.
            batch_size: Rows at a time, for arrays. None: 256.
            verbose: 0 for no progress bar, `"auto"`, 1 or 2 for one.

        Returns:
            The density itself.

        Raises:
            ValueError: A class has a single row, the labels are no whole
                numbers, the features are not finite or are random.
        """
        features: list[Array] = []
        labels: list[Array] = []
        for rows, classes, _ in batches(x, y, batch_size, verbose):
            features.append(self._features_of(rows))
            if not labels:
                self._check_not_random(rows, features[0])
            missing = classes is None
            labels.append(np.zeros(len(features[-1])) if missing else _labels(classes))
        self.scorer = self._make_scorer(
            np.concatenate(features), np.concatenate(labels)
        )
        return self

    def score(
        self, x: Any, batch_size: int | None = None, verbose: str | int = "auto"
    ) -> Array:
        """Scores `(N,)`: the larger, the more unlike the training data.

        Args:
            x: Inputs as for `model.predict`.
            batch_size: Rows at a time, for arrays.
            verbose: As for `model.predict`.

        Returns:
            A NumPy array. The score of a NaN is NaN.

        Raises:
            ValueError: `fit` was not called.
        """
        if self.scorer is None:
            raise ValueError(
                "`FeatureDensity` must be fitted before use: call `fit` first."
            )
        return self.scorer.predict(x, batch_size=batch_size, verbose=verbose)

    def _features_of(self, x: Any) -> Array:
        found = np.asarray(self.features.predict_on_batch(x), dtype="float64")
        if not np.isfinite(found).all():
            raise ValueError(
                "`x` must have finite features. Received: "
                f"{np.count_nonzero(~np.isfinite(found))} NaN or infinite value(s)"
            )
        return found

    def _check_not_random(self, x: Any, features: Array) -> None:
        # Two passes of the same program over the same rows: equal to the last bit.
        if not np.array_equal(self._features_of(x), features):
            raise ValueError(
                "`model` must not be random up to `layer`: two passes gave different "
                "features. Give `uq.to_deterministic(model)`. Received: "
                f"{self.features.layers[-1]}"
            )

    def _make_scorer(self, features: Array, labels: Array) -> keras.Model:
        classes, index, counts = np.unique(
            labels, return_inverse=True, return_counts=True
        )
        if counts.min() < 2:
            raise ValueError(
                "`y` must have at least 2 rows of each class. Received: "
                f"{counts.min()} row of class {classes[counts.argmin()]:g}"
            )
        means = np.stack(
            [features[index == c].mean(axis=0) for c in range(len(counts))]
        )
        centred = features - means[index]
        groups = [centred]
        if self.covariance == _OWN:
            groups = [centred[index == c] for c in range(len(counts))]
        roots, log_dets = zip(*(_whitening(rows) for rows in groups), strict=True)
        log_weights = np.log(counts / len(labels)) + np.asarray(log_dets)
        layer = ClassDensity(self.covariance, len(counts), name="density")
        output = layer(self.features.output)
        layer.set_weights(
            [
                means,
                np.stack(roots),
                log_weights - 0.5 * features.shape[1] * math.log(2.0 * math.pi),
            ]
        )
        return keras.Model(self.features.input, output)


@register("novelty.ClassDensity")
class ClassDensity(keras.layers.Layer):
    """The layer that turns features into a novelty score, see `FeatureDensity`.

    `FeatureDensity.fit` sets its weights: the means, a root of each inverse
    covariance, and the constants of the log densities. They are not trained.

    Args:
        covariance: `"shared"` or `"own"`.
        classes: Number of classes.
        **kwargs: As for `keras.layers.Layer`.

    Input shape:
        `(batch, F)`.

    Output shape:
        `(batch,)`.

    Raises:
        ValueError: An unknown `covariance`; `classes` is no positive integer.
    """

    def __init__(self, covariance: str, classes: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.covariance = arguments.one_of("covariance", covariance, (_SHARED, _OWN))
        self.classes = arguments.positive_int("classes", classes)

    @property
    def _score_dtype(self) -> str:
        return at_least_float32(self.compute_dtype)

    def build(self, input_shape: Shape) -> None:
        size = input_shape[-1]
        groups = self.classes if self.covariance == _OWN else 1
        self.means = self._add_constant("means", (self.classes, size))
        self.roots = self._add_constant("roots", (groups, size, size))
        self.log_weights = self._add_constant("log_weights", (self.classes,))

    def _add_constant(self, name: str, shape: Shape) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=self._score_dtype,
            initializer="zeros",
            trainable=False,
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        features = ops.cast(inputs, self._score_dtype)
        means, roots = (ops.convert_to_tensor(w) for w in (self.means, self.roots))
        if self.covariance == _SHARED:
            # Centred first: a common offset would take digits away.
            centre = means[0]
            white = ops.matmul(features - centre, roots[0])
            means = ops.matmul(means - centre, roots[0])
            squares = ops.map(lambda mean: _squares(white - mean), means)
            # The smallest. `ops.min` refuses an empty batch.
            # On PyTorch, Keras makes float32 of a product of float64.
            return ops.cast(ops.sort(squares, axis=0)[0], self._score_dtype)
        squares = ops.map(
            lambda part: _squares(ops.matmul(features - part[0], part[1])),
            (means, roots),
        )
        return -ops.logsumexp(self.log_weights[:, None] - 0.5 * squares, axis=0)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:-1]

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self._score_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "covariance": self.covariance,
            "classes": self.classes,
        }


def _squares(rows: Tensor) -> Tensor:
    return ops.sum(ops.square(rows), axis=-1)


def _feature_model(
    model: keras.Model, layer: int | str | keras.layers.Layer
) -> keras.Model:
    """The model up to and with one of its layers."""
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a Sequential or Functional model that is built: another "
            "does not tell what goes into a layer. Of an ensemble, take a member. "
            f"Received: {model}"
        )
    found = _find(model, layer)
    output = found.output
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 2:
        raise ValueError(
            "`layer` must have one output of shape (batch, F): take a layer behind "
            "the flattening or pooling. Received: a layer "
            f"{found.name!r} with output {output}"
        )
    return keras.Model(_keras.symbolic_inputs(model), output)


def _find(
    model: keras.Model, layer: int | str | keras.layers.Layer
) -> keras.layers.Layer:
    layers = model.layers
    for position, found in enumerate(layers):
        if layer is found or layer in (found.name, position, position - len(layers)):
            return found
    names = ", ".join(repr(found.name) for found in layers)
    raise ValueError(
        f"`layer` must be a layer of the model, its name or its index: {names}. "
        f"Received: layer={layer!r}"
    )


def _labels(y: Any) -> Array:
    """Labels `(N,)` from labels or one-hot rows."""
    labels = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if labels.ndim == 2:
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.ndim != 1 or not np.array_equal(labels, np.round(labels)):
        raise ValueError(
            "`y` must hold labels (N,), or one-hot rows (N, K). A regression has no "
            f"classes: give x alone. Received: y of shape {labels.shape}"
        )
    return labels


def _whitening(rows: Array) -> tuple[Array, float]:
    """A root of the inverse covariance of centred rows, and the log of its
    determinant.

    The covariance `S` is shrunk to `(1 - s) S + s m I`, `m` the mean variance. `s`
    is the share that is best for normal rows (Chen et al., eq. 23).
    """
    count, size = rows.shape
    covariance = rows.T @ rows / count
    mean = np.trace(covariance) / size
    if not mean > 0:
        raise ValueError(
            "The features must vary within a class. Received: features that are "
            "equal in all rows"
        )
    squares, total = np.sum(covariance**2), size * mean
    excess = squares - total**2 / size  # 0 where S is m I already
    chance = ((1 - 2 / size) * squares + total**2) / (count + 1 - 2 / size)
    share = min(chance / excess, 1.0) if excess > 0 else 1.0
    values, vectors = np.linalg.eigh(covariance)
    values = (1.0 - share) * np.maximum(values, 0.0) + share * mean
    return vectors / np.sqrt(values), -0.5 * np.sum(np.log(values))


_namespace.define(__name__)
