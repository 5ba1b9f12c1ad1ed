"""Targets that are no exact numbers, as arrays of intervals `[lower | upper]`.

A measurement that ended too early, lies below a limit of detection, was rounded
or was not made is an interval. Each function returns an array `(..., 2 * D)`: the
lower ends of the `D` outputs, and then the upper ends. The family
`uq.families.Interval` reads it, and so do a head, a loss and a metric with that
family.

- Equal ends are an exact number.
- An infinite end is open: `[1000 | inf]` is "more than 1000".
- `[-inf | inf]` is a missing number.

These functions refuse numbers that are none. `fit` itself looks at no target: for
arrays of your own making, `uq.families.Interval("weibull").check_target(y)` and
`uq.diagnose` do.
"""

import numpy as np
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor

__all__ = ["censored", "intervals", "missing", "rounded", "survival"]


def censored(
    y: Tensor, lower: Tensor | None = None, upper: Tensor | None = None
) -> Array:
    """Intervals of numbers that were recorded between limits of detection.

    A number at a limit, or beyond it, says only on which side it lies.

    ```
    y <= lower:  [-inf | lower]
    y >= upper:  [upper | inf]
    else:        [y | y]
    ```

    Args:
        y: Array of numbers `(..., D)`, or `(N,)`.
        lower: Lower limits, a number or an array that broadcasts against `y`.
            None: no lower limit.
        upper: Upper limits, likewise.

    Returns:
        Array `(..., 2 * D)`.

    Raises:
        ValueError: A NaN, a lower limit that is not below the upper one, or no
            limit at all.

    Example:

    >>> uq.targets.censored(np.array([0.01, 0.5]), lower=0.01).tolist()
    [[-inf, 0.01], [0.5, 0.5]]
    """
    y = _numbers("y", y)
    if lower is None and upper is None:
        raise arguments.error("lower", "given where `upper` is not", lower)
    low = _limits("lower", lower, -np.inf, y)
    high = _limits("upper", upper, np.inf, y)
    if not (low < high).all():
        raise arguments.error("lower", "below `upper`", lower)
    at_low, at_high = y <= low, y >= high
    return _join(
        np.where(at_low, -np.inf, np.where(at_high, high, y)),
        np.where(at_low, low, np.where(at_high, np.inf, y)),
    )


def intervals(lower: Tensor, upper: Tensor) -> Array:
    """Intervals from both of their ends, as where two visits frame an event.

    ```
    lower = upper:       an exact number
    -inf, inf:           no such end
    ```

    Args:
        lower: Array of lower ends `(..., D)`, or `(N,)`.
        upper: Array of upper ends of the same shape.

    Returns:
        Array `(..., 2 * D)`.

    Raises:
        ValueError: A NaN, a lower end above its upper end, or shapes that differ.

    Example:

    >>> uq.targets.intervals(np.array([2.0, 5.0]), np.array([3.0, np.inf])).tolist()
    [[2.0, 3.0], [5.0, inf]]
    """
    low, high = _numbers("lower", lower), _same_shape("upper", upper, "lower", lower)
    swapped = low > high
    if swapped.any():
        raise arguments.error(
            "lower", "at most `upper`", low[swapped].ravel()[0].item()
        )
    return _join(low, high)


def survival(time: Tensor, event: Tensor) -> Array:
    """Intervals of times to an event, some of which had not come yet.

    ```
    event = 1:  [time | time]    it came at that time
    event = 0:  [time | inf]     it had not come by then: right-censored
    ```

    Args:
        time: Array of times `(..., D)`, or `(N,)`, not negative.
        event: Zeros and ones, or booleans, of the same shape.

    Returns:
        Array `(..., 2 * D)`.

    Raises:
        ValueError: A time that is negative, infinite or NaN, an event that is
            neither 0 nor 1, or shapes that differ.

    Example:

    >>> uq.targets.survival(np.array([5.0, 8.0]), np.array([1, 0])).tolist()
    [[5.0, 5.0], [8.0, inf]]
    """
    time, came = _numbers("time", time), _same_shape("event", event, "time", time)
    _check("time", "a non-negative finite number", time, (time >= 0) & (time < np.inf))
    _check("event", "0 or 1", came, (came == 0) | (came == 1))
    return _join(time, np.where(came == 1, time, np.inf))


def rounded(y: Tensor, step: Tensor) -> Array:
    """Intervals of numbers that were rounded to the nearest multiple of a step.

    ```
    [y - step / 2 | y + step / 2]
    ```

    Args:
        y: Array of rounded numbers `(..., D)`, or `(N,)`.
        step: The step, a positive number or an array that broadcasts against
            `y`: ages in years have a step of 1.

    Returns:
        Array `(..., 2 * D)`.

    Raises:
        ValueError: A NaN, or a step that is not positive and finite.

    Example:

    >>> uq.targets.rounded(np.array([70.0, 75.0]), step=5).tolist()
    [[67.5, 72.5], [72.5, 77.5]]
    """
    y = _numbers("y", y)
    step = _limits("step", step, np.nan, y)
    _check("step", "a positive finite number", step, (step > 0) & (step < np.inf))
    return _join(y - 0.5 * step, y + 0.5 * step)


def missing(y: Tensor) -> Array:
    """Intervals of numbers of which some are missing: a NaN becomes the whole line.

    ```
    NaN:   [-inf | inf]
    else:  [y | y]
    ```

    A missing output adds 0 to the loss, with a gradient of 0; the other outputs
    of its row count.

    Args:
        y: Array of numbers `(..., D)`, or `(N,)`.

    Returns:
        Array `(..., 2 * D)`.

    Example:

    >>> uq.targets.missing(np.array([[1.0, np.nan]])).tolist()
    [[1.0, -inf, 1.0, inf]]
    """
    y = _array(y)
    absent = np.isnan(y)
    return _join(np.where(absent, -np.inf, y), np.where(absent, np.inf, y))


def _array(value: Tensor) -> Array:
    """Floats, with an axis of outputs."""
    array = np.asarray(ops.convert_to_numpy(value))
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype("float64")
    return array[:, None] if array.ndim == 1 else array


def _numbers(name: str, value: Tensor) -> Array:
    array = _array(value)
    if np.isnan(array).any():
        raise ValueError(
            f"`{name}` must hold no NaN: `uq.targets.missing(y)` makes missing outputs "
            f"of them. Received: {np.isnan(array).sum()} NaN (shape {array.shape})"
        )
    return array


def _same_shape(name: str, value: Tensor, other_name: str, other: Tensor) -> Array:
    array = _numbers(name, value)
    if array.shape != _array(other).shape:
        raise ValueError(
            f"`{name}` must have the shape of `{other_name}`, {np.shape(other)}. "
            f"Received: {name} of shape {np.shape(value)}"
        )
    return array


def _limits(name: str, value: Tensor | None, absent: float, y: Array) -> Array:
    """Limits of the shape of `y`, whose rows may stand in one axis."""
    limits = np.asarray(absent if value is None else ops.convert_to_numpy(value))
    if limits.ndim == 1 and limits.shape[0] == y.shape[0] and y.shape[1:] == (1,):
        limits = limits[:, None]
    try:
        limits = np.broadcast_to(limits, y.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must broadcast against `y` of shape {y.shape}. "
            f"Received: {name} of shape {limits.shape}"
        ) from None
    _check(name, "no NaN", limits, ~np.isnan(limits) | np.isnan(absent))
    return limits.astype(y.dtype)


def _check(name: str, rule: str, values: Array, right: Array) -> None:
    if not right.all():
        raise arguments.error(name, rule, values[~right].ravel()[0].item())


def _join(lower: Array, upper: Array) -> Array:
    return np.concatenate([lower, upper], axis=-1)


_namespace.define(__name__)
