"""Metrics of the central interval that a prediction gives."""

from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers.metrics.base import MeanMetric
from keras_uq_layers.registration import register


class IntervalMetric(MeanMetric):
    """Abstract: one value per position from the central interval of a level."""

    def __init__(self, level, family, name, dtype):
        super().__init__(family, name, dtype)
        self.level = arguments.probability("level", level)
        if self.level in (0.0, 1.0):
            raise arguments.error("level", "inside (0, 1)", level)

    def values(self, y, params):
        lower = self.family.quantile(0.5 - 0.5 * self.level, params)
        upper = self.family.quantile(0.5 + 0.5 * self.level, params)
        return ops.mean(self.interval_values(y, lower, upper), axis=-1)

    def interval_values(self, y, lower, upper):
        """One value per output, from tensors `(..., D)`."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "level": self.level}


@register("metrics.IntervalCoverage")
class IntervalCoverage(IntervalMetric):
    """Share of the targets inside the central interval, over all outputs.

    For a calibrated model it equals `level`; above it the model is too
    cautious, below it too sure of itself.

    Args:
        level: Probability that the interval should hold, inside (0, 1).
        family: Name or object of a family with a `quantile`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.IntervalCoverage(0.9)
    >>> metric.update_state(np.array([0.0, 5.0]), np.array([[0.0, 1.0]] * 2))
    >>> float(metric.result())
    0.5
    """

    def __init__(self, level=0.9, family="normal", name="coverage", dtype=None):
        super().__init__(level, family, name, dtype)

    def interval_values(self, y, lower, upper):
        inside = ops.logical_and(lower <= y, y <= upper)
        # What is not a number is neither inside nor outside.
        bad = ops.isnan(y) | ops.isnan(lower) | ops.isnan(upper)
        return ops.where(bad, float("nan"), ops.cast(inside, y.dtype))


@register("metrics.MeanIntervalWidth")
class MeanIntervalWidth(IntervalMetric):
    """Mean width of the central interval, averaged over outputs.

    In the unit of y. Of two models with the right coverage the one with the
    narrower intervals is the sharper; alone, the width says nothing.

    Args:
        level: Probability that the interval should hold, inside (0, 1).
        family: Name or object of a family with a `quantile`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.MeanIntervalWidth(0.95)
    >>> metric.update_state(np.array([0.0]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 2)
    3.92
    """

    def __init__(self, level=0.9, family="normal", name="width", dtype=None):
        super().__init__(level, family, name, dtype)

    def interval_values(self, y, lower, upper):
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
        family: Name or object of a family with a `quantile`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: A level outside (0, 1), an unknown family, or shapes that
            do not agree.

    Example:

    >>> metric = uq.metrics.IntervalScore(0.9)
    >>> metric.update_state(np.array([0.0]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 2)
    3.29

    References:
        Winkler, 1972, "A Decision-Theoretic Approach to Interval Estimation",
        JASA 67(337). Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules,
        Prediction, and Estimation", JASA 102(477).
    """

    def __init__(self, level=0.9, family="normal", name="interval_score", dtype=None):
        super().__init__(level, family, name, dtype)

    def interval_values(self, y, lower, upper):
        # Not `maximum`, whose constants would hide a NaN on some backends.
        distance = ops.relu(lower - y) + ops.relu(y - upper)
        return (upper - lower) + 2.0 / (1.0 - self.level) * distance
