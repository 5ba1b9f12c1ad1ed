"""Metrics: running means over batch positions, thin users of a family."""

import keras
from keras import ops

from keras_uq_layers import families
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.numerics import position_mask
from keras_uq_layers.numerics import position_weights
from keras_uq_layers.numerics import where_valid
from keras_uq_layers.numerics.masking import keras_mask
from keras_uq_layers.registration import register

__all__ = ["NegativeLogLikelihood", "MeanAbsoluteError", "RootMeanSquaredError"]


class FamilyMetric(keras.metrics.Metric):
    """Abstract: the weighted mean of one value per batch position.

    It honours `sample_weight` and masks, so that a metric over batches equals
    the metric over the whole set. Positions that do not count are made safe
    before the family is evaluated.
    """

    def __init__(self, family, name, dtype):
        super().__init__(
            name=name, dtype=at_least_float32(dtype or keras.config.floatx())
        )
        self.family = families.get(family)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = keras_mask(y_pred)
        params = ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
        y = self.family.align(ops.convert_to_tensor(y_true), params)
        y = ops.cast(y, self.dtype)
        shape = tuple(params.shape[:-1])
        weights = position_weights(sample_weight, shape, self.dtype)
        mask = position_mask(mask, shape)
        if mask is not None:
            share = ops.cast(mask, self.dtype)
            weights = share if weights is None else weights * share
        valid = None if weights is None else weights != 0
        values = self.values(where_valid(valid, y), where_valid(valid, params))
        if weights is None:
            weights = ops.ones_like(values)
        else:
            values = ops.where(valid, values, ops.zeros_like(values))
            weights = ops.broadcast_to(weights, ops.shape(values))
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def values(self, y, params):
        """One value per batch position."""
        raise NotImplementedError

    def result(self):
        return ops.divide_no_nan(
            ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.count)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "family": families.serialize(self.family),
        }


@register("metrics.NegativeLogLikelihood")
class NegativeLogLikelihood(FamilyMetric):
    """Mean negative log likelihood per position, in nats, summed over outputs.

    Unlike the loss of a model it holds no KL, no regularizer and no beta: the
    number to compare models by. It may be negative, see
    `uq.losses.NegativeLogLikelihood`.

    Args:
        family: Name or object of the family of the head.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.NegativeLogLikelihood()
    >>> metric.update_state(np.array([[0.0]]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 4)
    0.9189
    """

    def __init__(self, family="normal", name="nll", dtype=None):
        super().__init__(family, name, dtype)

    def values(self, y, params):
        return -self.family.log_prob(y, params)


@register("metrics.MeanAbsoluteError")
class MeanAbsoluteError(FamilyMetric):
    """Mean absolute error of the family's mean, averaged over outputs.

    `metrics=["mae"]` on a params tensor would average |y - loc| and
    |y - scale| in silence; this reads the mean out of it.

    Args:
        family: Name or object of the family of the head.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.MeanAbsoluteError()
    >>> metric.update_state(np.array([[2.0]]), np.array([[0.0, 1.0]]))
    >>> float(metric.result())
    2.0
    """

    def __init__(self, family="normal", name="mae", dtype=None):
        super().__init__(family, name, dtype)

    def values(self, y, params):
        return ops.mean(ops.abs(y - self.family.mean(params)), axis=-1)


@register("metrics.RootMeanSquaredError")
class RootMeanSquaredError(FamilyMetric):
    """Root of the mean squared error of the family's mean, over all outputs.

    In the unit of y.

    Args:
        family: Name or object of the family of the head.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.RootMeanSquaredError()
    >>> metric.update_state(np.array([[2.0]]), np.array([[0.0, 1.0]]))
    >>> float(metric.result())
    2.0
    """

    def __init__(self, family="normal", name="rmse", dtype=None):
        super().__init__(family, name, dtype)

    def values(self, y, params):
        return ops.mean(ops.square(y - self.family.mean(params)), axis=-1)

    def result(self):
        return ops.sqrt(super().result())


@register("metrics.Pinball")
class Pinball(FamilyMetric):
    """Mean pinball (quantile) score, over the levels and the outputs.

    Args:
        levels: Increasing probabilities in (0, 1), those of the head.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: `levels` is empty, not increasing or outside of (0, 1), or
            shapes do not agree.

    Example:

    >>> metric = uq.metrics.Pinball([0.1, 0.9])
    >>> metric.update_state(np.array([[2.0]]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 4)
    0.55
    """

    def __init__(self, levels, name="pinball", dtype=None):
        super().__init__(families.Quantiles(levels), name, dtype)
        self.levels = self.family.levels

    def values(self, y, params):
        return ops.mean(self.family.pinball(y, params), axis=-1)

    def get_config(self):
        config = super().get_config()
        del config["family"]
        return {**config, "levels": list(self.levels)}
