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
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.prediction import Moments
from keras_uq_layers.registration import register


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

    def _scores(self, prediction: Moments, y: Tensor) -> Array:
        raise NotImplementedError

    def fit(self, prediction: Moments, y: Tensor) -> Self:
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction` of N examples. `SplitConformal` needs its
                mean and std alone, and takes `Moments`, too.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y` or the prediction is not
                finite, or there are too few points for the level: at least
                `level / (1 - level)`, 9 for 0.9, 19 for 0.95, 99 for 0.99.
        """
        scores = self._scores(prediction, y)
        self.threshold = conformal_quantile(as_rows(scores), self.level)
        return self

    def get_config(self) -> Config:
        threshold = None if self.threshold is None else self.threshold.tolist()
        return {"level": self.level, "threshold": threshold}


@register("calibration.SplitConformal")
class SplitConformal(_Conformal):
    """Intervals `mean -+ threshold * std` with a guaranteed coverage.

    ```
    score = |y - mean| / std
    threshold = the ceil((n + 1) level)-th smallest of n calibration scores
    ```

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

    Raises:
        ValueError: `level` is not inside (0, 1), or a threshold is negative
            or not finite.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> params = np.tile([0.0, 1.0], (1, 999, 1))
    >>> prediction = uq.Prediction(params, "normal")
    >>> calibrator = uq.calibration.SplitConformal(level=0.9)
    >>> calibrator = calibrator.fit(prediction, 3.0 * rng.normal(size=999))
    >>> lower, upper = calibrator.interval(prediction)
    >>> bool(4.5 < upper[0, 0] < 5.4)
    True

    References:
        Lei et al., 2018, "Distribution-Free Predictive Inference for
        Regression", JASA 113(523), arXiv:1604.04173.
    """

    smallest = 0.0

    def _scores(self, prediction: Moments, y: Tensor) -> Array:
        mean, std = check_moments(prediction).mean, prediction.std
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(targets(y, mean.shape) - mean) / std

    def interval(self, prediction: Moments) -> tuple[Array, Array]:
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        mean = check_moments(prediction).mean
        half = self._of_outputs(self.threshold, mean.shape[-1]) * prediction.std
        return mean - half, mean + half


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
    >>> params = np.tile([-0.1, 0.1], (1, 999, 1))
    >>> family = uq.families.Quantiles([0.05, 0.95])
    >>> prediction = uq.Prediction(params, family)
    >>> calibrator = uq.calibration.ConformalQuantile(level=0.9)
    >>> calibrator = calibrator.fit(prediction, rng.normal(size=999))
    >>> lower, upper = calibrator.interval(prediction)
    >>> bool(1.5 < upper[0, 0] < 1.8)
    True

    References:
        Romano, Patterson & Candes, 2019, "Conformalized Quantile Regression",
        NeurIPS, arXiv:1905.03222.
    """

    def _scores(self, prediction: Moments, y: Tensor) -> Array:
        lower, upper = check_prediction(prediction).interval(self.level)
        y = targets(y, lower.shape)
        return np.maximum(lower - y, y - upper)

    def interval(self, prediction: Moments) -> tuple[Array, Array]:
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        lower, upper = check_prediction(prediction).interval(self.level)
        threshold = self._of_outputs(self.threshold, lower.shape[-1])
        middle = 0.5 * (lower + upper)
        return (
            np.minimum(lower - threshold, middle),
            np.maximum(upper + threshold, middle),
        )
