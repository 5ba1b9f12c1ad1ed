"""Metrics of the distribution and of its mean."""

from collections.abc import Sequence

from keras import ops

from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.metrics._base import MeanMetric
from keras_uq_layers.registration import register


@register("metrics.NegativeLogLikelihood")
class NegativeLogLikelihood(MeanMetric):
    """Mean negative log likelihood per position, in nats, summed over outputs.

    Unlike the loss of a model it holds no KL, no regularizer and no beta: the
    number to compare models by. It may be negative, see
    `uq.losses.NegativeLogLikelihood`.

    Args:
        family: Name or object of a family. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.NegativeLogLikelihood("normal")
    >>> metric.update_state(np.array([[0.0]]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 4)
    0.9189
    """

    direction = "down"
    likelihood = True
    summed = True

    def __init__(
        self, family: Identifier = None, name: str = "nll", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        return -family.log_prob(y, params)


@register("metrics.MeanAbsoluteError")
class MeanAbsoluteError(MeanMetric):
    """Mean absolute error of the family's mean, averaged over outputs.

    `metrics=["mae"]` on a params tensor would average `|y - loc|` and
    `|y - scale|` in silence; this reads the mean out of it.

    Args:
        family: Name or object of a family. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.MeanAbsoluteError("normal")
    >>> metric.update_state(np.array([[2.0]]), np.array([[0.0, 1.0]]))
    >>> float(metric.result())
    2.0
    """

    direction = "down"

    def __init__(
        self, family: Identifier = None, name: str = "mae", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        return ops.mean(ops.abs(y - family.mean(params)), axis=-1)


@register("metrics.RootMeanSquaredError")
class RootMeanSquaredError(MeanMetric):
    """Root of the mean squared error of the family's mean, over all outputs.

    In the unit of y.

    Args:
        family: Name or object of a family. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.RootMeanSquaredError("normal")
    >>> metric.update_state(np.array([[2.0]]), np.array([[0.0, 1.0]]))
    >>> float(metric.result())
    2.0
    """

    direction = "down"

    def __init__(
        self, family: Identifier = None, name: str = "rmse", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        return ops.mean(ops.square(y - family.mean(params)), axis=-1)

    def result(self) -> Tensor:
        return ops.sqrt(super().result())


@register("metrics.CRPS")
class CRPS(MeanMetric):
    """Mean continuous ranked probability score, averaged over outputs.

    In the unit of y; the mean absolute error where the prediction is a point.
    See `uq.losses.CRPS`.

    Args:
        family: Name or object of a family with a `crps`. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.
        NotImplementedError: The family has no CRPS in closed form.

    Example:

    >>> metric = uq.metrics.CRPS("normal")
    >>> metric.update_state(np.array([[0.0]]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 4)
    0.2337
    """

    direction = "down"

    def __init__(
        self, family: Identifier = None, name: str = "crps", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        return ops.mean(family.crps(y, params), axis=-1)


@register("metrics.PredictiveEntropy")
class PredictiveEntropy(MeanMetric):
    """Mean entropy of the prediction, in nats, summed over the outputs.

    How uncertain the model is, whatever the truth: the targets only tell
    which positions count. Between 0 and `log(K)` for `K` classes; for a
    continuous quantity it may be negative, like a log likelihood.

    Args:
        family: Name or object of a family with an `entropy`. None: that of the
            head which made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.
        NotImplementedError: The family has no entropy in closed form.

    Example:

    >>> metric = uq.metrics.PredictiveEntropy(uq.families.Categorical())
    >>> metric.update_state(np.array([0]), np.array([[0.0, 0.0]]))
    >>> round(float(metric.result()), 4)  # log(2)
    0.6931
    """

    summed = True

    def __init__(
        self, family: Identifier = None, name: str = "entropy", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        entropy = family.entropy(params)
        joint = len(entropy.shape) < len(params.shape)
        return entropy if joint else ops.sum(entropy, axis=-1)


@register("metrics.Pinball")
class Pinball(MeanMetric):
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

    direction = "down"

    def __init__(
        self, levels: Sequence[float], name: str = "pinball", dtype: str | None = None
    ) -> None:
        quantiles = families.Quantiles(levels)
        super().__init__(quantiles, name, dtype)
        self.levels = quantiles.levels

    def values(self, family: Family, y: Tensor, params: Tensor) -> Tensor:
        assert isinstance(family, families.Quantiles)
        return ops.mean(family.pinball(y, params), axis=-1)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["family"]
        return {**config, "levels": list(self.levels)}
