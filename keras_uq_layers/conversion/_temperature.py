"""How wide a posterior the training rows allow, by leaving each of them out."""

import math
from collections.abc import Callable

import numpy as np

from keras_uq_layers._typing import Array

LOSS_ALLOWED = 0.005
"""Nats by which the mean negative log likelihood may grow."""

_DRAWS = 100
_RANGE = 1e-6, 1e6
# 27.6 nats in 12 halvings: the temperature is known to one percent.
_HALVINGS = 12


def warmest(log_p: Callable[[Array], Array], variances: Array, units: int) -> float:
    """The largest temperature at which rows lose at most `LOSS_ALLOWED`.

    Args:
        log_p: Function from a change of the outputs `(N, units)` to the log
            likelihood of each row.
        variances: Of the outputs, at a temperature of 1, `(N,)`.
        units: Number of outputs.

    References:
        Gruenwald & van Ommen, 2017, "Inconsistency of Bayesian Inference for
        Misspecified Linear Models, and a Proposal for Repairing It", Bayesian
        Analysis 12(4), arXiv:1412.3730: a posterior whose temperature makes it
        predict rows that it has not seen.
    """
    scales = np.sqrt(variances)[:, None]
    largest = LOSS_ALLOWED - np.mean(log_p(np.zeros((len(scales), units))))

    def loss(temperature: float) -> float:
        # The same random numbers each time: the loss is smooth in the temperature.
        rng = np.random.default_rng(0)
        total = np.full(len(scales), -math.inf)
        for _ in range(_DRAWS):
            noise = rng.standard_normal((len(scales), units))
            total = np.logaddexp(total, log_p(math.sqrt(temperature) * scales * noise))
        return math.log(_DRAWS) - float(np.mean(total))

    low, high = (math.log(end) for end in _RANGE)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if loss(math.exp(middle)) <= largest:
            low = middle
        else:
            high = middle
    return math.exp(low)
