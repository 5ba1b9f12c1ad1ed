import keras
import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.numerics import within_support
from keras_uq_layers.registration import register


@register("families.Interval")
class Interval(Family):
    """Targets that are intervals: exact, censored, rounded or missing numbers.

    ```
    y = [lower | upper]
    log p(y) = log p(lower)                   equal ends: an exact number
             = log P(lower <= Y <= upper)     else
             = 0, with a gradient of 0        (-inf, inf): a missing number
    ```

    The params are those of the base family, and all that is read from params
    alone is, too: means, quantiles, draws, plots, `uq.predict`. The likelihood
    takes another target, with two columns for each output: `(..., 2 * D)`, the
    lower ends of all outputs and then the upper ends. `uq.targets` makes such
    arrays. Exact and censored outputs may stand in one row. Targets of shape
    `(..., D)` are exact numbers, and other scores than the likelihood take these
    alone.

    For counts both ends belong to the interval: `[3 | 3]` is a three, and
    `[3 | inf]` is three or more. An interval may reach beyond the support, as
    the amount `0` does that was rounded to the nearest 5.

    A loss is a mean over all rows, as always in Keras, those with missing outputs
    included: a missing output adds 0.

    The ends are compared after the cast to the dtype of the loss: an interval
    that is narrower than the rounding error of float32 is an exact number.

    Args:
        base: Name or object of the family of the numbers themselves.

    Raises:
        ValueError: The family has no `log_interval_prob`; the message lists those
            that have it.

    Example:

    >>> family = uq.families.Interval("normal")
    >>> params = np.array([[0.0, 1.0]] * 3)
    >>> y = np.array([[0.0, 0.0], [0.0, np.inf], [-np.inf, np.inf]])
    >>> [round(float(v), 4) for v in family.log_prob(y, params)]
    [-0.9189, -0.6931, 0.0]

    Reference:
        Klein & Moeschberger, 2003, "Survival Analysis", 2nd ed., section 3.5,
        doi:10.1007/b97377.
    """

    name = "interval"

    def __init__(self, base: Identifier) -> None:
        self.base = _with_intervals(base)
        own = {*vars(Interval), "log_prob", "log_interval_prob", "from_config"}
        for name in dir(Family):
            # What is read from params alone is that of the base.
            if name not in own and not name.startswith("__"):
                setattr(self, name, getattr(self.base, name))

    def align_target(self, y: Tensor, params: Tensor) -> Tensor:
        """Gives `y` the shape `(..., 2 * D)`, or `(..., D)` where it is exact.

        Args:
            y: Intervals `(..., 2 * D)`; or exact numbers `(..., D)`, or `(...)`
                where `D` is 1.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            `y` in the dtype of `params`, float32 or wider.

        Raises:
            ValueError: The shapes do not agree. Nothing is broadcast.
        """
        y = ops.convert_to_tensor(y)
        if not self._holds_ends(tuple(y.shape), params):
            return self.base.align(y, params)
        units = y.shape[-1] // 2
        ends = (y[..., :units], y[..., units:])
        return ops.concatenate([self.base.align(end, params) for end in ends], -1)

    def align(self, y: Tensor, params: Tensor) -> Tensor:
        """As that of the base: one number for each output.

        Raises:
            ValueError: The shapes do not agree, or `y` holds intervals.
        """
        shape = tuple(ops.shape(y))
        if self._holds_ends(shape, params):
            raise ValueError(
                f"`y` must hold one number for each output, shape (..., "
                f"{shape[-1] // 2}): a prediction can be compared with an interval "
                "by its likelihood alone, `log_prob` or `NegativeLogLikelihood`. "
                f"Received: y of shape {shape}"
            )
        return self.base.align(y, params)

    def _holds_ends(self, shape: tuple, params: Tensor) -> bool:
        units = self.base.units(params.shape[-1] if len(params.shape) else None)
        return len(shape) == len(params.shape) and shape[-1] == 2 * units

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        y = self.align_target(y, params)
        if not self._holds_ends(tuple(y.shape), params):
            return self.base.marginal_log_prob(y, params)
        units = y.shape[-1] // 2
        lower, upper = y[..., :units], y[..., units:]
        exact, missing, nothing, unknown = self._kinds(lower, upper)
        ranged = ops.logical_not(exact | missing | nothing | unknown)
        # Each method gets targets and params at which it is harmless, where its
        # value is not chosen.
        parts = self.base.split(params)
        density = self.base.marginal_log_prob(
            ops.where(exact, lower, ops.ones_like(lower)),
            self.base.join(*within_support(ops.logical_not(exact), *parts)),
        )
        mass = self.base.log_interval_prob(
            ops.where(ranged, lower, -np.inf),
            ops.where(ranged, upper, np.inf),
            self.base.join(*within_support(ops.logical_not(ranged), *parts)),
        )
        value = ops.where(exact, density, ops.where(ranged, mass, 0.0))
        value = ops.where(nothing, -np.inf, value)
        return ops.where(unknown, float("nan"), value)

    def _kinds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, ...]:
        """Where an interval is one number, the whole line, empty, and a NaN."""
        exact = lower == upper
        missing = (lower <= -np.inf) & (upper >= np.inf)
        low, high = self.base.lower, self.base.upper
        if self.base.closed or self.base.discrete:
            outside = (upper < low) | (lower > high)
        else:
            outside = (upper <= low) | (lower >= high)
        if self.base.discrete:
            whole = np if isinstance(lower, np.ndarray) else ops
            outside = outside | (whole.ceil(lower) > whole.floor(upper))
        nothing = (outside & (lower != upper)) | (lower > upper)
        unknown = (lower != lower) | (upper != upper)
        return exact, missing, nothing, unknown

    def check_target(self, y: Tensor, params: Tensor | None = None) -> None:
        """Raises an error where targets cannot come from this family.

        Args:
            y: Array of intervals `(..., 2 * D)`; or of exact numbers `(..., D)`, an
                even number of which is read as intervals where `params` are None.
            params: The params tensor beside it.

        Raises:
            ValueError: A NaN, a lower end above its upper end, an interval that
                holds nothing of the support, or a number outside of it.
        """
        array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
        self._check_nan(array)
        if params is None:
            holds_ends = array.ndim > 1 and array.shape[-1] % 2 == 0
        else:
            holds_ends = self._holds_ends(array.shape, params)
        if holds_ends:
            self._check_ends(*np.split(array, 2, axis=-1))
        else:
            self.base.check_target(array, params)

    def _check_ends(self, lower: Array, upper: Array) -> None:
        swapped = lower > upper
        _raise_where(swapped, lower, upper, "`[lower | upper]` with lower <= upper")
        exact, _, nothing, _ = self._kinds(lower, upper)
        rule = (
            f"intervals that hold numbers between {self.base.lower:g} and "
            f"{self.base.upper:g} for the family {self.base.name!r}"
        )
        _raise_where(nothing, lower, upper, rule)
        if exact.any():
            self.base.check_target(lower[exact])

    def _check_nan(self, y: Array) -> None:
        if np.isnan(y).any():
            raise ValueError(
                "`y` must hold no NaN: `uq.targets.missing(y)` makes missing outputs "
                f"of them. Received: {np.isnan(y).sum()} NaN (shape {y.shape})"
            )

    def target_numbers(self, y: Tensor, units: int) -> Array:
        """A number in the middle of each interval.

        Args:
            y: Intervals `(..., 2 * D)`; or exact numbers `(..., D)`, or `(...)`
                where `D` is 1.
            units: Number of outputs `D`.

        Returns:
            Float64 array `(N, D)`; NaN where an end is infinite.

        Raises:
            ValueError: As for `check_target`, or targets of another width.
        """
        array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
        self._check_nan(array)
        if array.ndim < 2 or array.shape[-1] != 2 * units:
            return self.base.target_numbers(array, units)
        lower, upper = np.split(array, 2, axis=-1)
        self._check_ends(lower, upper)
        closed = np.isfinite(lower) & np.isfinite(upper)
        lower, upper = (np.where(closed, end, np.nan) for end in (lower, upper))
        return (0.5 * lower + 0.5 * upper).reshape(-1, units)

    def get_config(self) -> Config:
        return {"base": keras.saving.serialize_keras_object(self.base)}

    def __repr__(self) -> str:
        return f"Interval({self.base!r})"


def _with_intervals(identifier: Identifier) -> Family:
    """The family of that name or object, if it gives intervals a probability."""
    family = families.get(identifier)
    if family.independent and _has_intervals(type(family)):
        return family
    names = ", ".join(
        repr(cls.name) for cls in families.classes() if _has_intervals(cls)
    )
    raise arguments.error(
        "base", f"a family with a `log_interval_prob`: {names}", family
    )


def _has_intervals(cls: type[Family]) -> bool:
    return cls.log_interval_prob is not Family.log_interval_prob


def _raise_where(wrong: Array, lower: Array, upper: Array, rule: str) -> None:
    if wrong.any():
        first = f"[{lower[wrong].ravel()[0]:g}, {upper[wrong].ravel()[0]:g}]"
        raise ValueError(
            f"`y` must hold {rule}. Received: {np.count_nonzero(wrong)} other "
            f"interval(s), the first is {first} (shape of the ends {lower.shape})"
        )
