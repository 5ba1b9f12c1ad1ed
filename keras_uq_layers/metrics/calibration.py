"""Metrics of the calibration of a predicted distribution function."""

from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers.metrics.base import FamilyMetric
from keras_uq_layers.registration import register


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
        family: Name or object of a family with a `cdf`.
        levels: Number `m` of levels, a positive integer.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, `levels` is not a positive integer, or
            shapes that do not agree.

    Example:

    >>> metric = uq.metrics.RegressionCalibrationError(levels=1)
    >>> metric.update_state(np.array([-1.0, -2.0]), np.array([[0.0, 1.0]] * 2))
    >>> float(metric.result())  # all below the median: (0.5 - 1)^2
    0.25

    References:
        Kuleshov, Fenner & Ermon, 2018, "Accurate Uncertainties for Deep
        Learning Using Calibrated Regression", ICML, arXiv:1807.00263.
    """

    def __init__(
        self, family="normal", levels=19, name="calibration_error", dtype=None
    ):
        super().__init__(family, name, dtype)
        self.levels = arguments.positive_int("levels", levels)
        self.below = self.add_variable((self.levels,), "zeros", name="below")
        self.count = self.add_variable((), "zeros", name="count")

    def accumulate(self, y, params, weights):
        pit = ops.reshape(self.family.cdf(y, params), (-1,))
        weights = ops.broadcast_to(ops.expand_dims(weights, -1), ops.shape(y))
        weights = ops.reshape(weights, (-1,))
        below = ops.cast(pit[:, None] <= self._grid(), self.dtype)
        # A target that is not a number must show in the result.
        bad = ops.isnan(pit) & (weights != 0)
        below = ops.where(bad[:, None], ops.full_like(below, float("nan")), below)
        self.below.assign_add(ops.sum(weights[:, None] * below, axis=0))
        self.count.assign_add(ops.sum(weights))

    def _grid(self):
        steps = ops.arange(1, self.levels + 1, dtype=self.dtype)
        return steps / (self.levels + 1)

    def result(self):
        count = ops.convert_to_tensor(self.count)
        share = ops.divide_no_nan(ops.convert_to_tensor(self.below), count)
        error = ops.mean(ops.square(share - self._grid()))
        return ops.where(count > 0, error, ops.zeros_like(error))

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}
