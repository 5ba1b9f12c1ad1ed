"""What all metrics share: weights, masks, and a running sum."""

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.reading import family_of_params
from keras_uq_layers.reading import is_placeholder
from keras_uq_layers.scoring import Scored
from keras_uq_layers.scoring import scored


class FamilyMetric(keras.metrics.Metric):
    """Abstract: a metric of targets and params, position by position.

    It honours `sample_weight` and masks. Positions that do not count are made
    safe before the family is evaluated. A subclass gives `accumulate`.

    Attributes:
        direction: `"down"` where smaller is better, `"up"` where larger is
            better, None where neither is. `EarlyStopping` and other callbacks
            of Keras read it when they are not given a `mode`.
        likelihood: Whether the metric reads `y` by `log_prob` alone.
        summed: Whether it is a sum over the outputs, and not a mean.
        family: The given family, or None: that of the head which made the
            params.
    """

    direction: str | None = None
    likelihood = False
    summed = False

    def __init__(self, family: Identifier, name: str, dtype: str | None) -> None:
        super().__init__(
            name=name, dtype=at_least_float32(dtype or keras.config.floatx())
        )
        if self.direction is not None:
            _keras.set_direction(self, self.direction)
        self.family = None if family is None else families.get(family)
        # A name stands for the head's family of that name, with its arguments.
        self._given = family if isinstance(family, str) else self.family

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: Targets `(..., D)`, or `(...)` where `D` is 1.
            y_pred: Params `(..., P * D)`.
            sample_weight: Weights `(B,)`, `(B, 1)` or of the shape of the
                positions, or None. Where `D` is above 1 and the outputs are
                independent, also one weight for each output, `(..., D)`: a mean
                over positions or outputs is then one with these weights, times
                `D` for a sum over the outputs.
        """
        if self.family is None and is_placeholder(y_pred):
            return
        family = family_of_params(y_pred, self._given)
        rows = scored(
            family, y_true, y_pred, sample_weight, self.dtype, self.likelihood
        )
        weights = rows.weights
        if weights is None:
            weights = ops.ones_like(rows.params[..., 0])
        if rows.mask is not None:
            weights = weights * ops.cast(rows.mask, self.dtype)
        self.accumulate(family, rows._replace(weights=weights))

    def accumulate(self, family: Family, rows: Scored) -> None:
        """Adds a batch to the state.

        Args:
            family: The family that reads the params.
            rows: Targets, params and weights. Where a weight is 0, also by the
                mask, targets and params are safe numbers without a meaning.
        """
        raise NotImplementedError

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "family": families.serialize(self._given),
        }


class MeanMetric(FamilyMetric):
    """Abstract: the weighted mean of one value per position.

    Over batches it equals the metric over the whole set. A subclass gives
    `values`.
    """

    def __init__(self, family: Identifier, name: str, dtype: str | None) -> None:
        super().__init__(family, name, dtype)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def accumulate(self, family: Family, rows: Scored) -> None:
        values = self.values(family, rows.y, rows.params)
        values = ops.where(rows.weights != 0, values, ops.zeros_like(values))
        values, weights, _ = rows.of_positions(values, self.summed)
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        """One value per batch position.

        Args:
            family: The family that reads the params.
            y: Tensor `(..., D)`.
            params: Tensor `(..., P * D)`.

        Returns:
            Tensor `(...)`.
        """
        raise NotImplementedError

    def result(self) -> Tensor:
        """The metric of all batches since the last reset."""
        return ops.divide_no_nan(
            ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.count)
        )
