"""Metrics of how well the confidence tells right predictions from wrong ones."""

from keras import ops

from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.metrics._base import FamilyMetric
from keras_uq_layers.metrics.classification import of_classes
from keras_uq_layers.metrics.classification import top_labels
from keras_uq_layers.numerics.risk_coverage import area_under_generalized_risk
from keras_uq_layers.numerics.risk_coverage import area_under_risk
from keras_uq_layers.numerics.risk_coverage import risk_coverage
from keras_uq_layers.registration import register
from keras_uq_layers.scoring import Scored

# Probabilities of an error that differ by less than a quarter of a percent share
# a cell: exp(37 / 2**14). exp(-37) is the rounding error of float64.
_CELLS, _RANGE = 2**14, 37.0


class _RiskCoverage(FamilyMetric):
    """Abstract: an area under a risk-coverage curve, from a fine histogram.

    The curve needs all rows in the order of their confidence, and a metric of
    Keras has a state of fixed size. The histogram has it, and a value that does
    not depend on the batches.
    """

    direction = "down"

    def __init__(self, family: Identifier, name: str, dtype: str | None) -> None:
        super().__init__(family, name, dtype)
        if self.family is not None:
            of_classes(self.family)
        # Rows: weight, and weight of the wrong predictions.
        self.sums = self.add_variable((2, _CELLS), "zeros", name="sums")

    def accumulate(self, family: Family, rows: Scored) -> None:
        confidence, right, weights = top_labels(family, rows)
        bad = ops.isnan(confidence)
        # At a confidence of 1 the logarithm is below the range, too.
        error = ops.where(bad | (confidence >= 1.0), 1e-30, 1.0 - confidence)
        cell = ops.floor(_CELLS * (1.0 + ops.log(error) / _RANGE))
        cell = ops.cast(ops.clip(cell, 0, _CELLS - 1), "int32")
        wrong = ops.where(bad, float("nan"), 1.0 - right)
        columns = ops.stack([weights, weights * wrong], axis=-1)
        added = ops.segment_sum(columns, cell, num_segments=_CELLS)
        self.sums.assign_add(ops.transpose(added))

    def curve(self) -> tuple[Tensor, Tensor]:
        """Coverage and risk, from the surest cell on."""
        sums = ops.convert_to_tensor(self.sums)
        return risk_coverage(sums[0], sums[1])


@register("metrics.AURC")
class AURC(_RiskCoverage):
    """Area under the risk-coverage curve: the error rate of selective answers.

    ```
    risk(c) = error rate among the share c of the surest predictions
    AURC    = integral of risk(c) over c from 0 to 1
    ```

    A model that may keep silent answers where its confidence, the probability of
    the most likely class, is high. Each share of answers has an error rate, and
    the AURC is its mean over all shares. Smaller is better: a right model is
    accurate, and is unsure where it is wrong. Only the order of the confidences
    counts, not whether they are calibrated.

    Most of the weight lies on the few surest predictions: one wrong prediction
    with the highest confidence changes the value a lot. `AUGRC` does not have this
    fault.

    Over batches it equals the metric over the whole set. The confidences are
    sorted into 16384 cells, which are finer the closer the confidence is to 1.
    Predictions in one cell are accepted together. `uq.plotting.risk_coverage`
    draws the exact curve, for any score and any loss.

    Args:
        family: `"categorical"`, `"bernoulli"` (every output counts as a
            prediction), or such an object. None: the family of the head which
            made the params.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: Another family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.AURC(uq.families.Categorical(from_logits=False))
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> metric.update_state(np.array([0, 0, 0, 1]), p)  # the least sure is wrong
    >>> round(float(metric.result()), 4)  # the risks are 0, 0, 0 and 1/4
    0.0312

    References:
        Geifman & El-Yaniv, 2017, "Selective Classification for Deep Neural
        Networks", NeurIPS, arXiv:1705.08500.
    """

    def __init__(
        self, family: Identifier = None, name: str = "aurc", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def result(self) -> Tensor:
        return area_under_risk(*self.curve())


@register("metrics.AUGRC")
class AUGRC(_RiskCoverage):
    """Area under the generalized risk-coverage curve: the risk of silent failures.

    ```
    AUGRC = integral of c * risk(c) over c from 0 to 1
    ```

    `c * risk(c)` is the probability that a prediction is among the share `c` of
    the surest ones and wrong: a silent failure. The AUGRC is its mean over all
    shares `c`, between 0 and 1/2, and smaller is better. Compared with `AURC`, a
    wrong prediction counts in proportion to the share of predictions that are
    less sure than it is.

    Curve, cells and batches are those of `AURC`.

    Args:
        family: As for `AURC`.
        name: Name of the metric.
        dtype: As for `keras.metrics.Metric`; float32 at least.

    Raises:
        ValueError: Another family, or shapes that do not agree.

    Example:

    >>> metric = uq.metrics.AUGRC(uq.families.Categorical(from_logits=False))
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> metric.update_state(np.array([0, 0, 0, 1]), p)
    >>> round(float(metric.result()), 4)
    0.0312

    References:
        Traub et al., 2024, "Overcoming Common Flaws in the Evaluation of
        Selective Classification Systems", NeurIPS, arXiv:2407.01032.
    """

    def __init__(
        self, family: Identifier = None, name: str = "augrc", dtype: str | None = None
    ) -> None:
        super().__init__(family, name, dtype)

    def result(self) -> Tensor:
        return area_under_generalized_risk(*self.curve())
