"""Scores of predicted survival times, where some times are censored.

They are functions and no Keras metrics: each compares pairs of rows, or counts how
many rows are still at risk, and is no mean over batches.
"""

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor


def concordance_index(y: Tensor, predicted: Tensor) -> float:
    """Share of pairs of rows that a prediction puts in the right order.

    ```
    over pairs where row i is known to end before row j:
    mean of  1 if predicted_i < predicted_j,  1/2 if equal,  0 else
    ```

    Row i is known to end first where its event was observed, and row j lasted
    longer, or was censored at that time. 1/2 is guessing, and 1 is a perfect order.
    The index, named after Harrell, says nothing of the times themselves.

    Args:
        y: Times as intervals `(N, 2)`, made by `uq.targets.survival`.
        predicted: Predicted times `(N,)` or `(N, 1)`, such as the `median` of a
            prediction: a larger number says a later event. Give a risk, which says
            an earlier one, with a minus.

    Returns:
        Float between 0 and 1.

    Raises:
        ValueError: `y` holds other intervals than exact or right-censored times,
            `predicted` is not one number for each, or no pair can be compared.

    Example:

    >>> y = uq.targets.survival(np.array([2.0, 5.0, 8.0]), np.array([1, 0, 1]))
    >>> uq.metrics.concordance_index(y, np.array([3.0, 9.0, 7.0]))
    1.0

    Reference:
        Harrell et al., 1982, "Evaluating the Yield of Medical Tests", JAMA 247(18),
        doi:10.1001/jama.1982.03320430047030.
    """
    time, event = _right_censored("y", y)
    score = _one_for_each("predicted", predicted, len(time))
    right = pairs = 0.0
    # One row at a time: the memory of all pairs at once is not needed.
    for i in np.flatnonzero(event):
        later = (time > time[i]) | ((time == time[i]) & ~event)
        pairs += np.count_nonzero(later)
        right += np.count_nonzero(score[later] > score[i])
        right += 0.5 * np.count_nonzero(score[later] == score[i])
    if pairs == 0.0:
        raise ValueError(
            "`y` must hold two times of which one is known to be shorter. "
            f"Received: {len(time)} time(s), {np.count_nonzero(event)} event(s)"
        )
    return float(right / pairs)


def censored_brier_score(
    y: Tensor, survival: Tensor, time: float, y_train: Tensor | None = None
) -> float:
    """Brier score of the probability to survive a time, where some are censored.

    ```
    mean of  S_i^2 / G(t_i)             an event at t_i <= time
             (1 - S_i)^2 / G(time)      t_i > time
             0                          censored at t_i <= time
    ```

    `S_i` is the predicted probability of a time beyond `time`. `G(t)` is the
    probability not to be censored until `t`, by the estimator of Kaplan and Meier:
    the rows that are known stand for those that were censored before. This takes for
    granted that the censoring has nothing to do with the event and the inputs. Less
    is better; 1/4 is what a probability of 1/2 gets.

    Args:
        y: Times as intervals `(N, 2)`, made by `uq.targets.survival`.
        survival: Predicted probabilities `P(Y > time)`, `(N,)` or `(N, 1)`: of a
            prediction `1 - prediction.cdf(np.full((N, 1), time))`.
        time: The time, in the unit of `y`.
        y_train: Times from which `G` is estimated. None: `y`.

    Returns:
        Float.

    Raises:
        ValueError: `y` or `y_train` holds other intervals than exact or
            right-censored times, `survival` is not one probability for each, or all
            rows of `y_train` are censored before a time at which `G` is needed.

    Example:

    >>> y = uq.targets.survival(np.array([2.0, 5.0, 8.0]), np.array([1, 0, 1]))
    >>> score = uq.metrics.censored_brier_score(y, np.array([0.2, 0.7, 0.9]), 4.0)
    >>> round(score, 4)
    0.0467

    Reference:
        Graf et al., 1999, "Assessment and comparison of prognostic classification
        schemes for survival data", Statistics in Medicine 18(17-18),
        doi:10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5.
    """
    times, event = _right_censored("y", y)
    alive = _one_for_each("survival", survival, len(times))
    inside = (alive >= 0) & (alive <= 1)
    if not inside.all():
        rule = "a probability for each row"
        raise arguments.error("survival", rule, float(alive[~inside][0]))
    time = arguments.non_negative_float("time", time)
    known = _right_censored("y_train", y if y_train is None else y_train)
    later, died = times > time, event & (times <= time)
    at = np.where(later, time, times)
    uncensored = _uncensored(*known, at)
    counted = later | died
    if (uncensored[counted] == 0).any():
        raise ValueError(
            "`time` must be a time before which not all rows of `y_train` are "
            f"censored. Received: time={time}, and {known[0].max():g} as the last "
            "time of them"
        )
    error = np.where(later, 1.0 - alive, alive)
    return float(np.mean(counted * np.square(error) / np.where(counted, uncensored, 1)))


def _uncensored(times: Array, event: Array, at: Array) -> Array:
    """Probability not to be censored until some times, by Kaplan and Meier.

    Where an event and a censoring have the same time, the event came first.
    """
    moments = np.unique(times[~event])
    censored = np.array([np.count_nonzero(times[~event] == t) for t in moments])
    at_risk = np.array(
        [np.count_nonzero((times > t) | ((times == t) & ~event)) for t in moments]
    )
    steps = np.cumprod(np.concatenate([[1.0], 1.0 - censored / at_risk]))
    return steps[np.searchsorted(moments, at, side="right")]


def _right_censored(name: str, y: Tensor) -> tuple[Array, Array]:
    """Times, and whether an event was observed, of intervals `(N, 2)`."""
    ends = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if ends.ndim == 2 and ends.shape[1] == 2 and len(ends):
        lower, upper = ends.T
        if (np.isfinite(lower) & ((upper == lower) | (upper == np.inf))).all():
            return lower, upper == lower
    raise ValueError(
        f"`{name}` must hold exact or right-censored times (N, 2), as "
        f"`uq.targets.survival` makes them. Received: {name} of shape {ends.shape}"
    )


def _one_for_each(name: str, values: Tensor, rows: int) -> Array:
    array = np.asarray(ops.convert_to_numpy(values), dtype="float64")
    if array.shape not in ((rows,), (rows, 1)) or np.isnan(array).any():
        raise ValueError(
            f"`{name}` must hold one number for each of the {rows} rows of `y`. "
            f"Received: {name} of shape {array.shape}, "
            f"{np.isnan(array).sum()} NaN"
        )
    return array.reshape(rows)
