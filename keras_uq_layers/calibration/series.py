from typing import Any
from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import as_rows
from keras_uq_layers.calibration._base import check_moments
from keras_uq_layers.calibration._base import conformal_rank
from keras_uq_layers.calibration._base import has_std
from keras_uq_layers.calibration._base import in_shape_of
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.prediction import Moments
from keras_uq_layers.registration import register


@register("calibration.AdaptiveConformal")
class AdaptiveConformal(Calibrator):
    """Intervals for a series whose distribution changes: it learns from its misses.

    ```
    score     = |y - mean| / scale
    interval  = mean -+ scale * quantile of the past scores at level_t
    level_t+1 = level_t + rate * (share of the last y outside - (1 - level))
    ```

    `SplitConformal` covers new rows that are exchangeable with the held-out ones.
    A series drifts, and its intervals become too narrow. Here each y outside of
    its interval makes the next intervals wider, and each y inside makes them a
    little narrower. The guarantee holds for any series, also after a shift: over
    the first T steps, the share of y inside differs from `level` by at most
    `(1 + rate) / (rate * T)`. It is about all steps together: a single step after
    a jump may be missed.

    The calls of one step: `interval` for the next y, then `update` when it is
    known. The scores of `fit` are replaced by those of `update`, the oldest first.
    `uq.calibration.save` keeps all, also an interval that waits for its y.

    Args:
        level: Share of y inside, inside (0, 1).
        rate: How fast it adapts, a positive number. A large one follows changes
            quickly, and gives intervals whose widths vary more.
        current_level: The state: the level of the next interval. It may leave
            (0, 1): from 1 on, intervals are infinite, and from 0 down they are
            points.
        scores: The state: the last scores, the oldest first.
        residuals: The state: `"absolute"` or `"std"`, which scale the residuals
            are divided by.
        waiting: The state: mean, scale and threshold of the last interval.

    Raises:
        ValueError: `level` is not inside (0, 1), or `rate` is not positive.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> series = rng.normal(size=250) * np.repeat([1.0, 3.0], 125)  # it changes
    >>> past, future = series[:100], series[100:]
    >>> calibrator = uq.calibration.AdaptiveConformal(level=0.9, rate=0.05)
    >>> calibrator = calibrator.fit(np.zeros(100), past)
    >>> inside = 0
    >>> for y in future:
    ...     lower, upper = calibrator.interval(np.zeros(1))
    ...     inside += int(lower[0] <= y <= upper[0])
    ...     calibrator = calibrator.update([y])
    >>> 0.85 < inside / len(future) < 0.95
    True

    References:
        Gibbs & Candes, 2021, "Adaptive Conformal Inference Under Distribution
        Shift", NeurIPS, arXiv:2106.00170.
    """

    def __init__(
        self,
        level: float = 0.9,
        rate: float = 0.01,
        current_level: float | None = None,
        scores: list[float] | None = None,
        residuals: str | None = None,
        waiting: list[Any] | None = None,
    ) -> None:
        self.level = arguments.open_probability("level", level)
        self.rate = arguments.positive_float("rate", rate)
        self.current_level = self.level if current_level is None else current_level
        self.scores = scores
        self.residuals = residuals
        self.waiting = waiting

    def fit(self, prediction: Moments | Array, y: Tensor) -> Self:
        """Starts from the scores of rows that the model was not trained on.

        Args:
            prediction: A `Prediction` or `Moments` of N examples with one output,
                or an array `(N,)` of predictions of y. Where it has a std, it
                scales the residuals.
            y: Targets `(N,)` or `(N, 1)`, the oldest first.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, more than one output, or numbers that
                are not finite.
        """
        self.residuals = "std" if has_std(check_moments(prediction)) else "absolute"
        mean, scale = self._read(prediction)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.abs(targets(y, (len(mean), 1))[:, 0] - mean) / scale
        self.scores = as_rows(scores[:, None])[:, 0].tolist()
        self.current_level, self.waiting = self.level, None
        return self

    def interval(self, prediction: Moments | Array) -> tuple[Array, Array]:
        """Lower and upper ends for the rows of the next step, in the unit of y.

        Args:
            prediction: As for `fit`, of the rows of the step: mostly one.

        Returns:
            Two arrays `(N, 1)`; `(N,)` where `prediction` is an array `(N,)`.
        """
        scores = np.sort(self._require_fit(self.scores))
        mean, scale = self._read(prediction)
        rank = conformal_rank(len(scores), self.current_level)
        ends = np.concatenate([[-np.inf], scores, [np.inf]])
        threshold = float(ends[np.clip(rank, 0, len(scores) + 1)])
        self.waiting = [mean.tolist(), scale.tolist(), threshold]
        half = scale * max(threshold, 0.0)
        lower, upper = ((mean + sign * half)[:, None] for sign in (-1, 1))
        return in_shape_of(prediction, lower, upper)

    def update(self, y: Tensor) -> Self:
        """Learns from the y of the last interval.

        Args:
            y: Targets of the rows of the last call of `interval`.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: There is no interval without its y, or shapes do not agree.
        """
        if self.waiting is None:
            raise ValueError("`update` must follow a call of `interval`, once for each")
        mean, scale, threshold = self.waiting
        y = targets(y, (len(mean), 1))[:, 0]
        scores = np.abs(y - np.asarray(mean)) / np.asarray(scale)
        missed = float(np.mean(scores > threshold))
        self.current_level += self.rate * (missed - (1.0 - self.level))
        self.scores = [*self._require_fit(self.scores), *scores.tolist()][len(y) :]
        self.waiting = None
        return self

    def _read(self, prediction: Moments | Array) -> tuple[Array, Array]:
        """Mean and scale of each row, `(N,)`."""
        found = check_moments(prediction)
        mean = found.mean
        if mean.ndim != 2 or mean.shape[1] != 1:
            raise ValueError(
                "`prediction` must have one output for each example. Received: a mean "
                f"of shape {mean.shape}"
            )
        scale = found.std if self.residuals == "std" else np.ones_like(mean)
        if not (np.isfinite(mean) & (scale > 0)).all():
            raise ValueError(
                "`prediction` must be finite, with a positive std where that of `fit` "
                "had one. Received: rows without"
            )
        return mean[:, 0], scale[:, 0]

    def get_config(self) -> Config:
        return {
            "level": self.level,
            "rate": self.rate,
            "current_level": self.current_level,
            "scores": self.scores,
            "residuals": self.residuals,
            "waiting": self.waiting,
        }
