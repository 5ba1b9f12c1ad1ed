"""The part that the families of classes share."""

import math

from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger


class ClassFamily(Family):
    """Abstract: a family whose `y` is a class.

    Its params are logits or, with `from_logits=False`, probabilities. Its
    `mean` holds the probabilities, and its uncertainty is an `entropy`.
    """

    lower, upper, closed = 0.0, 1.0, True
    target_unit = None
    independent = True

    def __init__(self, from_logits: bool = True) -> None:
        self.from_logits = arguments.boolean("from_logits", from_logits)
        self.parameters = ("logits",) if from_logits else ("probabilities",)

    def outside_support(self, y: Tensor) -> Tensor:
        """Where an aligned `y` is no probability. NaN is not outside."""
        return (y < 0) | (y > 1)

    def in_domain(self, params: Tensor) -> Tensor:
        if self.from_logits:
            return super().in_domain(params)
        # A softmax rounds.
        return ops.all((params >= 0) & (params <= 1.0 + 1e-3), axis=-1)

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        # Every class is as likely as any other. There is no scale.
        return (0.0,) if self.from_logits else (0.5,)

    # Classes have no order, except where there are two: see `Bernoulli`.

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        raise self._missing("cdf", "the probabilities, the `mean`,")

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        raise self._missing("quantile", "the probabilities, the `mean`,")

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        raise self._missing("CRPS", "the Brier score or the `log_prob`")

    def top_label(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """The confidence in the most likely class, and whether it was right.

        Args:
            y: As for `log_prob`.
            params: Tensor of logits or probabilities.

        Returns:
            Two tensors of the same shape: the probability of that class, and
            its share in `y` (1 or 0 for labels).
        """
        raise self._not_implemented("top_label")


def log_probability(p: Tensor) -> Tensor:
    """`log(p)`, and where `p` is 0 the log of the smallest normal number.

    A softmax rounds a small probability to 0. Its logarithm would be `-inf`,
    and one such row would make the mean of all rows infinite.

    Args:
        p: Tensor of probabilities, float32 or float64.

    Returns:
        Tensor of the shape of `p`: -87.3 at 0 in float32, with a gradient of
        0; NaN where `p` is negative.
    """
    return ops.log(ops.where(p < 0, p, larger(p, float(finfo(p.dtype).tiny))))


def log_complement(p: Tensor) -> Tensor:
    """`log(1 - p)`, and where `p` is 1 the log of a quarter of an epsilon.

    A sigmoid rounds `1 - epsilon / 4` to 1, so that the difference is lost.

    Args:
        p: Tensor of probabilities, float32 or float64.

    Returns:
        Tensor of the shape of `p`: -17.3 at 1 in float32, with a gradient of
        0; NaN where `p` is above 1 by more than rounding.
    """
    epsilon = float(finfo(p.dtype).eps)
    one = (p >= 1.0) & (p <= 1.0 + 8.0 * epsilon)
    below = ops.log1p(-ops.where(one, ops.zeros_like(p), p))
    return ops.where(one, ops.full_like(p, math.log(0.25 * epsilon)), below)
