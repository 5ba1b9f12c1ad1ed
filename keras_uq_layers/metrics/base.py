"""What all metrics share: weights, masks, and a running sum."""

import keras
from keras import ops

from keras_uq_layers import families
from keras_uq_layers.families.scoring import scored
from keras_uq_layers.numerics import at_least_float32


class FamilyMetric(keras.metrics.Metric):
    """Abstract: a metric of targets and params, position by position.

    It honours `sample_weight` and masks. Positions that do not count are made
    safe before the family is evaluated. A subclass gives `accumulate`.
    """

    def __init__(self, family, name, dtype):
        super().__init__(
            name=name, dtype=at_least_float32(dtype or keras.config.floatx())
        )
        self.family = families.get(family)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y, params, weights, mask, _ = scored(
            self.family, y_true, y_pred, sample_weight, self.dtype
        )
        if mask is not None:
            share = ops.cast(mask, self.dtype)
            weights = share if weights is None else weights * share
        if weights is None:
            weights = ops.ones_like(params[..., 0])
        else:
            weights = ops.broadcast_to(weights, ops.shape(params)[:-1])
        self.accumulate(y, params, weights)

    def accumulate(self, y, params, weights):
        """Adds a batch to the state.

        Args:
            y: Tensor `(..., D)`.
            params: Tensor `(..., P * D)`.
            weights: Tensor `(...)`; where it is 0, `y` and `params` are safe
                numbers without a meaning.
        """
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "family": families.serialize(self.family),
        }


class MeanMetric(FamilyMetric):
    """Abstract: the weighted mean of one value per position.

    Over batches it equals the metric over the whole set. A subclass gives
    `values`.
    """

    def __init__(self, family, name, dtype):
        super().__init__(family, name, dtype)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def accumulate(self, y, params, weights):
        values = self.values(y, params)
        values = ops.where(weights != 0, values, ops.zeros_like(values))
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def values(self, y, params):
        """One value per batch position."""
        raise NotImplementedError

    def result(self):
        return ops.divide_no_nan(
            ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.count)
        )
