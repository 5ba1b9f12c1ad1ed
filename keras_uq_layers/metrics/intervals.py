"""Metrics of the predicted interval and distribution function."""

from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.metrics._base import FamilyMetric
from keras_uq_layers.metrics._base import MeanMetric
from keras_uq_layers.registration import register
from keras_uq_layers.scoring import Scored


class IntervalMetric(MeanMetric):
    """Abstract: one value per position from the central interval of a level."""

    def __init__(
        self, level: float, family: Identifier, name: str, dtype: str | None
    ) -> None:
        super().__init__(family, name, dtype)
        self.level = arguments.open_probability("level", level)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        lower, upper = family.interval(self.level, params)
        return ops.mean(self.interval_values(y, lower, upper), axis=-1)

    def interval_values(self, y: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """One value per output, from tensors `(..., D)`."""
        raise NotImplementedError

    def get_config(self) -> Config:
        return {**super().get_config(), "level": self.level}


@register("metrics.IntervalCoverage")
class IntervalCoverage(IntervalMetric):
    """Share of the targets inside the central interval, over all outputs.

    For a calibrated model it equals `level`; above it the model is too
    cautious, below it too sure of itself.

    Args:
        level: Probability that the interval should hold, inside (0, 1).
        family: Name or object of a family with a `quantile`. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.IntervalCoverage(0.9, family="normal")
    >>> metric.update_state(np.array([0.0, 5.0]), np.array([[0.0, 1.0]] * 2))
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self,
        level: float = 0.9,
        family: Identifier = None,
        name: str = "coverage",
        dtype: str | None = None,
    ) -> None:
        super().__init__(level, family, name, dtype)

    def interval_values(self, y: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        inside = ops.logical_and(lower <= y, y <= upper)
        # A NaN is neither inside nor outside.
        bad = ops.isnan(y) | ops.isnan(lower) | ops.isnan(upper)
        return ops.where(bad, float("nan"), ops.cast(inside, y.dtype))


@register("metrics.MeanIntervalWidth")
class MeanIntervalWidth(IntervalMetric):
    """Mean width of the central interval, averaged over outputs.

    In the unit of y. Of two models with the right coverage the one with the
    narrower intervals is the sharper; alone, the width says nothing.

    Args:
        level: Probability that the interval should hold, inside (0, 1).
        family: Name or object of a family with a `quantile`. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.MeanIntervalWidth(0.95, family="normal")
    >>> metric.update_state(np.array([0.0]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 2)
    3.92
    """

    def __init__(
        self,
        level: float = 0.9,
        family: Identifier = None,
        name: str = "width",
        dtype: str | None = None,
    ) -> None:
        super().__init__(level, family, name, dtype)

    def interval_values(self, y: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return upper - lower


@register("metrics.IntervalScore")
class IntervalScore(IntervalMetric):
    """Mean interval (Winkler) score, averaged over outputs.

    ```
    score = (upper - lower) + 2 / (1 - level) * (distance of y to the interval)
    ```

    In the unit of y, smaller is better: a proper score of the interval, that
    weighs width against coverage.

    Args:
        level: Probability that the interval should hold, inside (0, 1).
        family: Name or object of a family with a `quantile`. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.IntervalScore(0.9, family="normal")
    >>> metric.update_state(np.array([0.0]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 2)
    3.29

    References:
        Winkler, 1972, "A Decision-Theoretic Approach to Interval Estimation",
        JASA 67(337). Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules,
        Prediction, and Estimation", JASA 102(477).
    """

    direction = "down"

    def __init__(
        self,
        level: float = 0.9,
        family: Identifier = None,
        name: str = "interval_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(level, family, name, dtype)

    def interval_values(self, y: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        # Not `maximum`, whose constants would hide a NaN on some backends.
        distance = ops.relu(lower - y) + ops.relu(y - upper)
        return (upper - lower) + 2.0 / (1.0 - self.level) * distance


@register("metrics.RegressionCalibrationError")
class RegressionCalibrationError(FamilyMetric):
    """Calibration error of a regression, from the PIT values.

    ```
    error = mean over levels p of (p - share of targets with F(y) <= p)^2
    ```

    with `F` the predicted distribution function. For a calibrated model of a
    continuous quantity `F(y)`, the probability integral transform, is uniform
    and the error 0, but for the share's own variance, `1 / (6 n)` on average.
    The levels are `1/(m+1), ..., m/(m+1)`, equally weighted. Over batches it
    equals the metric over the whole set. Each output counts as a target; a
    discrete family has no uniform PIT.

    Args:
        family: Name or object of a family with a `cdf`. None: that of the
            head which made the params.
        levels: Number `m` of levels, a positive integer.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, `levels` is not a positive integer, or
            shapes that do not agree.

    Example:

    >>> metric = uq.metrics.RegressionCalibrationError("normal", levels=1)
    >>> metric.update_state(np.array([-1.0, -2.0]), np.array([[0.0, 1.0]] * 2))
    >>> float(metric.result())  # all below the median: (0.5 - 1)^2
    0.25

    References:
        Kuleshov, Fenner & Ermon, 2018, "Accurate Uncertainties for Deep
        Learning Using Calibrated Regression", ICML, arXiv:1807.00263.
    """

    direction = "down"

    def __init__(
        self,
        family: Identifier = None,
        levels: int = 19,
        name: str = "calibration_error",
        dtype: str | None = None,
    ) -> None:
        super().__init__(family, name, dtype)
        self.levels = arguments.positive_int("levels", levels)
        self.below = self.add_variable((self.levels,), "zeros", name="below")
        self.count = self.add_variable((), "zeros", name="count")

    def accumulate(self, family: Family, rows: Scored) -> None:
        pit = ops.reshape(family.cdf(rows.y, rows.params), (-1,))
        weights = ops.expand_dims(rows.weights, -1)
        weights = ops.broadcast_to(weights, ops.shape(rows.y))
        weights = ops.reshape(weights, (-1,))
        below = ops.cast(pit[:, None] <= self._grid(), self.dtype)
        # A target that is not a number must show in the result.
        bad = ops.isnan(pit) & (weights != 0)
        below = ops.where(bad[:, None], ops.full_like(below, float("nan")), below)
        self.below.assign_add(ops.sum(weights[:, None] * below, axis=0))
        self.count.assign_add(ops.sum(weights))

    def _grid(self) -> Tensor:
        steps = ops.arange(1, self.levels + 1, dtype=self.dtype)
        return steps / (self.levels + 1)

    def result(self) -> Tensor:
        count = ops.convert_to_tensor(self.count)
        share = ops.divide_no_nan(ops.convert_to_tensor(self.below), count)
        error = ops.mean(ops.square(share - self._grid()))
        return ops.where(count > 0, error, ops.zeros_like(error))

    def get_config(self) -> Config:
        return {**super().get_config(), "levels": self.levels}
