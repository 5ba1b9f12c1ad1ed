"""Metrics of the distribution and of its mean."""

from keras import ops

from keras_uq_layers import families
from keras_uq_layers.metrics.base import MeanMetric
from keras_uq_layers.registration import register


@register("metrics.NegativeLogLikelihood")
class NegativeLogLikelihood(MeanMetric):
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
class MeanAbsoluteError(MeanMetric):
    """Mean absolute error of the family's mean, averaged over outputs.

    `metrics=["mae"]` on a params tensor would average `|y - loc|` and
    `|y - scale|` in silence; this reads the mean out of it.

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
class RootMeanSquaredError(MeanMetric):
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


@register("metrics.CRPS")
class CRPS(MeanMetric):
    """Mean continuous ranked probability score, averaged over outputs.

    In the unit of y; the mean absolute error where the prediction is a point.
    See `uq.losses.CRPS`.

    Args:
        family: Name or object of a family with a `crps`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.
        NotImplementedError: The family has no CRPS in closed form.

    Example:

    >>> metric = uq.metrics.CRPS()
    >>> metric.update_state(np.array([[0.0]]), np.array([[0.0, 1.0]]))
    >>> round(float(metric.result()), 4)
    0.2337
    """

    def __init__(self, family="normal", name="crps", dtype=None):
        super().__init__(family, name, dtype)

    def values(self, y, params):
        return ops.mean(self.family.crps(y, params), axis=-1)


@register("metrics.PredictiveEntropy")
class PredictiveEntropy(MeanMetric):
    """Mean entropy of the prediction, in nats, summed over the outputs.

    How uncertain the model is, whatever the truth: the targets only tell
    which positions count. Between 0 and `log(K)` for `K` classes; for a
    continuous quantity it may be negative, like a log likelihood.

    Args:
        family: Name or object of a family with an `entropy`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: An unknown family, or shapes that do not agree.
        NotImplementedError: The family has no entropy in closed form.

    Example:

    >>> metric = uq.metrics.PredictiveEntropy("categorical")
    >>> metric.update_state(np.array([0]), np.array([[0.0, 0.0]]))
    >>> round(float(metric.result()), 4)  # log(2)
    0.6931
    """

    def __init__(self, family="categorical", name="entropy", dtype=None):
        super().__init__(family, name, dtype)

    def values(self, y, params):
        entropy = self.family.entropy(params)
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

    def __init__(self, levels, name="pinball", dtype=None):
        super().__init__(families.Quantiles(levels), name, dtype)
        self.levels = self.family.levels

    def values(self, y, params):
        return ops.mean(self.family.pinball(y, params), axis=-1)

    def get_config(self):
        config = super().get_config()
        del config["family"]
        return {**config, "levels": list(self.levels)}
