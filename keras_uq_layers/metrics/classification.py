"""Metrics of predicted probabilities of classes."""

from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.metrics._base import FamilyMetric
from keras_uq_layers.metrics._base import MeanMetric
from keras_uq_layers.registration import register
from keras_uq_layers.scoring import Scored

# Confidences are sorted into this many bins of equal width before the
# adaptive bins are formed of them.
_FINE_BINS = 2**12


def of_classes(family: Family) -> ClassFamily:
    if not isinstance(family, ClassFamily):
        raise arguments.error(
            "family", "one of classes, 'categorical' or 'bernoulli'", family
        )
    return family


def top_labels(family: Family, rows: Scored) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, whether it was right, and weight of each prediction, flat."""
    confidence, right = of_classes(family).top_label(rows.y, rows.params)
    weights = ops.expand_dims(rows.weights, -1)
    weights = ops.broadcast_to(weights, ops.shape(confidence))
    # A label that is no class, or logits that are NaN, must show.
    right = ops.where((right < 0) | (right > 1), float("nan"), right)
    flat = (ops.reshape(tensor, (-1,)) for tensor in (confidence, right, weights))
    confidence, right, weights = flat
    return confidence, right, weights


@register("metrics.Accuracy")
class Accuracy(MeanMetric):
    """Share of the predictions whose most likely class is the right one.

    `metrics=["accuracy"]` of Keras compares the output with 0.5. The output of
    a Bernoulli head is a logit, for which the border is 0. This metric reads
    the family.

    Args:
        family: `"categorical"`, `"bernoulli"` (every output counts as a
            prediction), or such an object. None: the family of the head which
            made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: Another family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.Accuracy(uq.families.Bernoulli())
    >>> metric.update_state(np.array([1, 1]), np.array([[0.2], [-0.2]]))
    >>> float(metric.result())
    0.5
    """

    direction = "up"

    def __init__(
        self,
        family: Identifier = None,
        name: str = "accuracy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, name, dtype)
        if self.family is not None:
            of_classes(self.family)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        _, right = of_classes(family).top_label(y, params)
        # A label that is no class, or a logit that is NaN, must show.
        right = ops.where((right < 0) | (right > 1), float("nan"), right)
        right = ops.where(ops.isnan(params[..., :1]), float("nan"), right)
        return ops.mean(right, axis=-1)


@register("metrics.BrierScore")
class BrierScore(MeanMetric):
    """Mean Brier score: the squared error of the probabilities.

    ```
    categorical: sum over classes of (p_k - y_k)^2          between 0 and 2
    bernoulli:   mean over outputs of (p - y)^2             between 0 and 1
    ```

    A strictly proper score, smaller is better. For two classes the
    categorical form (Brier's own) is twice the binary one.

    Args:
        family: `"categorical"`, `"bernoulli"`, or such an object. None: the
            family of the head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: Another family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.BrierScore(uq.families.Categorical())
    >>> metric.update_state(np.array([0]), np.array([[0.0, 0.0]]))
    >>> float(metric.result())
    0.5

    References:
        Brier, 1950, "Verification of Forecasts Expressed in Terms of
        Probability", Monthly Weather Review 78(1).
    """

    direction = "down"

    def __init__(
        self,
        family: Identifier = None,
        name: str = "brier_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, name, dtype)
        if self.family is not None:
            of_classes(self.family)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        y = of_classes(family).align(y, params)
        outside = family.outside_support(y)
        # A label that is no class has no score.
        y = ops.where(outside, ops.full_like(y, float("nan")), y)
        squares = ops.square(family.mean(params) - y)
        reduce = ops.mean if family.independent else ops.sum
        return reduce(squares, axis=-1)


@register("metrics.ExpectedCalibrationError")
class ExpectedCalibrationError(FamilyMetric):
    """Expected calibration error (ECE) of the most likely class.

    ```
    ECE = sum over bins of w_b / w * |accuracy_b - confidence_b|
    ```

    The predictions are sorted into bins by their confidence, the probability
    of the most likely class; in each bin the mean confidence should be the
    share of predictions that are right.

    Over batches it equals the metric over the whole set. With fixed bins (Guo
    et al. 2017) that is the definition itself. The adaptive bins (Nixon et al.
    2019), with equally many predictions in each, need all confidences at once:
    here they are formed at the end from 4096 bins of equal width, which are
    divided in proportion where a boundary falls inside one.

    The ECE of finitely many predictions is biased: a calibrated model has an
    ECE of about `sqrt(2 bins / (pi n)) * std(right)`, not 0.

    Args:
        family: `"categorical"`, `"bernoulli"` (every output counts as a
            prediction), or such an object.
        bins: Number of bins, a positive integer.
        adaptive: Whether bins hold equally many predictions, instead of being
            equally wide.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: Another family, `bins` is not a positive integer, or shapes
            that do not agree.

    Example:

    >>> metric = uq.metrics.ExpectedCalibrationError(uq.families.Categorical())
    >>> metric.update_state(np.array([0, 1]), np.array([[0.0, 0.0]] * 2))
    >>> float(metric.result())  # confidence 0.5, half of them right
    0.0

    References:
        Guo et al., 2017, "On Calibration of Modern Neural Networks", ICML,
        arXiv:1706.04599. Nixon et al., 2019, "Measuring Calibration in Deep
        Learning", CVPR Workshops, arXiv:1904.01685.
    """

    direction = "down"

    def __init__(
        self,
        family: Identifier = None,
        bins: int = 15,
        adaptive: bool = False,
        name: str = "ece",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, name, dtype)
        if self.family is not None:
            of_classes(self.family)
        self.bins = arguments.positive_int("bins", bins)
        self.adaptive = arguments.boolean("adaptive", adaptive)
        self._cells = _FINE_BINS if adaptive else self.bins
        # Rows: weight, confidence and accuracy, each a sum over the bin.
        self.sums = self.add_variable((3, self._cells), "zeros", name="sums")

    def accumulate(self, family: Family, rows: Scored) -> None:
        confidence, right, weights = top_labels(family, rows)
        bad = ops.isnan(confidence)
        # Bins are closed on the right, as in Guo et al.
        cell = ops.ceil(ops.cast(self._cells, confidence.dtype) * confidence) - 1.0
        cell = ops.where(bad, 0.0, ops.clip(cell, 0, self._cells - 1))
        cell = ops.cast(cell, "int32")
        columns = ops.stack([weights, weights * confidence, weights * right], axis=-1)
        added = ops.segment_sum(columns, cell, num_segments=self._cells)
        self.sums.assign_add(ops.transpose(added))

    def result(self) -> Tensor:
        sums = ops.convert_to_tensor(self.sums)
        if self.adaptive:
            sums = _equal_mass(sums, self.bins)
        weight, confidence, right = sums[0], sums[1], sums[2]
        gaps = ops.sum(ops.abs(right - confidence))
        return ops.divide_no_nan(gaps, ops.sum(weight))

    def get_config(self) -> Config:
        return {**super().get_config(), "bins": self.bins, "adaptive": self.adaptive}


def _equal_mass(sums: Tensor, bins: int) -> Tensor:
    """Sums over fine cells to sums over bins of equal weight."""
    weight = sums[0]
    upper = ops.cumsum(weight)
    lower = upper - weight
    edges = ops.cast(ops.arange(bins + 1), weight.dtype) / bins * upper[-1]
    # The weight that each cell has in each bin: (cells, bins).
    overlap = ops.minimum(upper[:, None], edges[None, 1:]) - ops.maximum(
        lower[:, None], edges[None, :-1]
    )
    share = ops.divide_no_nan(ops.relu(overlap), weight[:, None])
    return ops.matmul(sums, share)
