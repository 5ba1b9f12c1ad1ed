"""The risk among the surest examples, against their share."""

from keras import ops

from keras_uq_layers._typing import Tensor


def risk_coverage(weights: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """One point of the risk-coverage curve for each score.

    ```
    coverage_k = sum of the first k weights / sum of all weights
    risk_k     = sum of the first k losses / sum of the first k weights
    ```

    Args:
        weights: Tensor `(n,)`: total weight of the examples with this score. The
            scores go from the surest to the least sure, and each is there once:
            a threshold accepts all examples with one score, or none.
        losses: Tensor `(n,)`: sum of weight times loss of the same examples.

    Returns:
        Coverage and risk, two tensors `(n,)`; 0 where no weight is accepted.
    """
    accepted, lost = ops.cumsum(weights), ops.cumsum(losses)
    coverage = ops.divide_no_nan(accepted, accepted[-1:])
    return coverage, ops.divide_no_nan(lost, accepted)


def area_under_risk(coverage: Tensor, risk: Tensor) -> Tensor:
    """Integral of the risk over the coverage; constant below the first point."""
    before = ops.where(_before(coverage) > 0, _before(risk), risk)
    return _trapezoid(coverage, before, risk)


def area_under_generalized_risk(coverage: Tensor, risk: Tensor) -> Tensor:
    """Integral of coverage times risk, which is 0 at a coverage of 0."""
    joint = coverage * risk
    return _trapezoid(coverage, _before(joint), joint)


def _trapezoid(coverage: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return ops.sum((coverage - _before(coverage)) * 0.5 * (left + right))


def _before(values: Tensor) -> Tensor:
    """The value of the point before, 0 before the first."""
    return ops.concatenate([ops.zeros_like(values[:1]), values[:-1]])
