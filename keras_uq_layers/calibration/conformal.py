from typing import Any
from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import as_rows
from keras_uq_layers.calibration._base import check_moments
from keras_uq_layers.calibration._base import check_prediction
from keras_uq_layers.calibration._base import conformal_quantile
from keras_uq_layers.calibration._base import has_std
from keras_uq_layers.calibration._base import in_shape_of
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register

_RESIDUALS = ("absolute", "std", "scale")


class _Conformal(Calibrator):
    """Abstract: a threshold on a score, one for each output."""

    smallest = -np.inf  # what a threshold cannot be below

    def __init__(self, level: float = 0.9, threshold: Floats | None = None) -> None:
        self.level = arguments.open_probability("level", level)
        self.threshold: Array | None = None
        if threshold is not None:
            found = np.atleast_1d(np.asarray(threshold, dtype="float64"))
            if not (np.isfinite(found) & (found >= self.smallest)).all():
                sign = "non-negative " if self.smallest == 0 else ""
                raise arguments.error(
                    "threshold", f"a finite {sign}number for each output", threshold
                )
            self.threshold = found

    def _fit(self, scores: Array) -> Self:
        self.threshold = conformal_quantile(as_rows(scores), self.level)
        return self

    def get_config(self) -> Config:
        threshold = None if self.threshold is None else self.threshold.tolist()
        return {"level": self.level, "threshold": threshold}


@register("calibration.SplitConformal")
class SplitConformal(_Conformal):
    """Intervals around any prediction with a guaranteed coverage.

    ```
    score = |y - mean| / scale
    threshold = the ceil((n + 1) level)-th smallest of n calibration scores
    interval = mean -+ threshold * scale
    ```

    `scale` is the std of a `uq.Prediction`. A prediction without a std, such as
    that of a model trained with squared errors, or an array of predictions of
    any other library, has a scale of 1: the scores are absolute residuals, and
    all intervals have one width. A scale of your own makes them wide where it
    is large, for example the prediction of a second model, trained on the
    absolute residuals of the first. The std of a plain model that is random
    (MC dropout, an ensemble) is the spread of its passes; give
    `prediction.mean` for absolute residuals instead.

    The guarantee holds however wrong the model is. A new target that is
    exchangeable with the calibration targets lies in its interval with
    probability at least `level`, and at most `level + 1 / (n + 1)` where
    scores have no ties. The probability is over calibration sets and new
    points together, for each output on its own. It does not hold for each x:
    a wrong model has intervals that are too wide at some x and too narrow at
    others, and is covered on average.

    Args:
        level: Coverage wanted, inside (0, 1).
        threshold: The fitted state, one number for each output, for loading.
        residuals: The fitted state: `"absolute"`, `"std"` or `"scale"`, which
            scale the residuals were divided by.

    Raises:
        ValueError: `level` is not inside (0, 1), a threshold is negative or not
            finite, or `residuals` is none of these.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> y_hat, y = np.zeros(999), 3.0 * rng.normal(size=999)
    >>> calibrator = uq.calibration.SplitConformal(level=0.9).fit(y_hat, y)
    >>> lower, upper = calibrator.interval(np.array([10.0]))
    >>> bool(14.5 < upper[0] < 15.4)
    True

    References:
        Lei et al., 2018, "Distribution-Free Predictive Inference for
        Regression", JASA 113(523), arXiv:1604.04173.
    """

    smallest = 0.0

    def __init__(
        self,
        level: float = 0.9,
        threshold: Floats | None = None,
        residuals: str | None = None,
    ) -> None:
        super().__init__(level, threshold)
        if residuals not in _RESIDUALS and (residuals or self.threshold is not None):
            raise arguments.error(
                "residuals", f"one of {_RESIDUALS} beside a threshold", residuals
            )
        self.residuals = residuals

    def fit(
        self, prediction: Moments | Array, y: Tensor, scale: Array | None = None
    ) -> Self:
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` or `Moments` of N examples, or an array
                `(N, D)` of predictions of y, or `(N,)` where `D` is 1.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.
            scale: Array of positive numbers of the shape of y, or None: the
                std of the prediction, 1 where it has none.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y`, the prediction or the scale is
                not finite, a scale is not positive, or there are too few points
                for the level: at least `level / (1 - level)`, 9 for 0.9, 19 for
                0.95, 99 for 0.99.
        """
        found = check_moments(prediction)
        residuals = np.abs(targets(y, found.mean.shape) - found.mean)
        kind = "std" if has_std(found) else "absolute"
        kind = kind if scale is None else "scale"
        with np.errstate(divide="ignore", invalid="ignore"):
            self._fit(residuals / _scale(kind, found, scale))
        self.residuals = kind
        return self

    def interval(
        self, prediction: Moments | Array, scale: Array | None = None
    ) -> tuple[Array, Array]:
        """Lower and upper ends of the intervals, in the unit of y.

        Args:
            prediction: As for `fit`, of the examples in question.
            scale: As for `fit`, if `fit` was given one.

        Returns:
            Two arrays `(N, D)`; `(N,)` where `prediction` is an array `(N,)`.

        Raises:
            ValueError: There was no `fit`, or shapes do not agree, or the
                prediction has no std or no scale, and `fit` had one.
        """
        found = check_moments(prediction)
        threshold = self._of_outputs(self.threshold, found.mean.shape[-1])
        half = threshold * _scale(self.residuals, found, scale)
        return in_shape_of(prediction, found.mean - half, found.mean + half)

    def get_config(self) -> Config:
        return {**super().get_config(), "residuals": self.residuals}


def _scale(kind: str | None, prediction: Moments, scale: Array | None) -> Array | float:
    """The scale of that kind, one of `_RESIDUALS`."""
    if (scale is not None) != (kind == "scale"):
        rule = "given, as it was to `fit`" if scale is None else "None, as for `fit`"
        raise arguments.error("scale", rule, scale)
    if scale is not None:
        found = targets(scale, prediction.mean.shape, "scale")
        if not (found > 0).all():
            raise ValueError(
                f"`scale` must be positive. Received: a smallest of {found.min():g}"
            )
        return found
    if kind == "std" and not has_std(prediction):
        raise ValueError(
            "`prediction` must have a std, as the one of `fit` had. Received: a "
            f"prediction of {prediction.passes} pass(es) of the family "
            f"{prediction.family!r}"
        )
    return prediction.std if kind == "std" else 1.0


@register("calibration.ConformalQuantile")
class ConformalQuantile(_Conformal):
    """Conformalised quantile regression: moves the ends of the model's interval.

    ```
    score = max(lower - y, y - upper)      of the model's interval at `level`
    interval = [lower - threshold, upper + threshold]
    ```

    A negative threshold makes the interval narrower. Where it would turn the
    interval inside out, both ends are its middle. The guarantee is that of
    `SplitConformal`.

    Args:
        level: Coverage wanted, inside (0, 1). A `Quantiles` family must have
            the levels `(1 -+ level) / 2`, or wider ones.
        threshold: The fitted state, one number for each output, for loading.

    Raises:
        ValueError: `level` is not inside (0, 1), or a threshold is not finite.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> ends = np.full(999, -0.1), np.full(999, 0.1)
    >>> calibrator = uq.calibration.ConformalQuantile(level=0.9)
    >>> calibrator = calibrator.fit(ends, rng.normal(size=999))
    >>> lower, upper = calibrator.interval(ends)
    >>> bool(1.5 < upper[0] < 1.8)
    True

    References:
        Romano, Patterson & Candes, 2019, "Conformalized Quantile Regression",
        NeurIPS, arXiv:1905.03222.
    """

    def fit(self, prediction: Prediction | tuple[Array, Array], y: Tensor) -> Self:
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` of N examples, or the ends of intervals,
                a tuple of two arrays `(N, D)`, or `(N,)` where `D` is 1. A plain
                prediction of a single pass is an interval of width 0.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y` or the prediction is not
                finite, or there are too few points for the level: at least
                `level / (1 - level)`, 9 for 0.9, 19 for 0.95, 99 for 0.99.
        """
        lower, upper = self._ends(prediction)
        y = targets(y, lower.shape)
        return self._fit(np.maximum(lower - y, y - upper))

    def interval(
        self, prediction: Prediction | tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Lower and upper ends in the unit of y: two arrays of the shape given."""
        lower, upper = self._ends(prediction)
        threshold = self._of_outputs(self.threshold, lower.shape[-1])
        middle = 0.5 * (lower + upper)
        return in_shape_of(
            prediction[0] if isinstance(prediction, tuple) else prediction,
            np.minimum(lower - threshold, middle),
            np.maximum(upper + threshold, middle),
        )

    def _ends(self, prediction: Any) -> tuple[Array, Array]:
        """Both ends `(N, D)` before the calibration."""
        if isinstance(prediction, tuple) and len(prediction) == 2:
            lower, upper = (check_prediction(end).mean for end in prediction)
            return lower, targets(upper, lower.shape, "upper")
        half = 0.5 * self.level
        lower, upper = check_prediction(prediction).quantile([0.5 - half, 0.5 + half])
        return lower, upper
