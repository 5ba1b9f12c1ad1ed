import numpy as np

from keras_uq_layers import families
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import conformal_quantile
from keras_uq_layers.calibration._base import open_level
from keras_uq_layers.calibration._base import read
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.calibration._base import to_array
from keras_uq_layers.registration import register


class _Conformal(Calibrator):
    """Abstract: a threshold on a score, one for each output."""

    def __init__(self, level=0.9, family="normal", threshold=None):
        self.level = open_level("level", level)
        self.family = families.get(family)
        self.threshold = None if threshold is None else np.asarray(threshold, "float64")

    def fit(self, prediction, y):
        """Sets the threshold from data that the model was not trained on.

        Args:
            prediction: A `Prediction`, or params `(N, P * D)`.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y` is not finite, or there are
                too few points for the level: at least
                `level / (1 - level)`, 9 for 0.9, 19 for 0.95, 99 for 0.99.
        """
        scores = self._scores(read(prediction, self.family), y)
        rows = scores.reshape(-1, scores.shape[-1])
        self.threshold = conformal_quantile(rows, self.level)
        return self

    def get_config(self):
        threshold = None if self.threshold is None else self.threshold.tolist()
        return {
            "level": self.level,
            "family": families.serialize(self.family),
            "threshold": threshold,
        }


@register("calibration.SplitConformal")
class SplitConformal(_Conformal):
    """Intervals `mean -+ threshold * std` with a coverage that is guaranteed.

    ```
    score = |y - mean| / std
    threshold = the ceil((n + 1) level)-th smallest of n calibration scores
    ```

    The guarantee: a new target that is exchangeable with the calibration
    targets lies in its interval with probability at least `level`, and at most
    `level + 1 / (n + 1)` where scores have no ties, however wrong the model
    is. The probability is over calibration sets and new points together, for
    each output on its own, and not for each x: a wrong model is covered on
    average, with intervals that are too wide here and too narrow there.

    Args:
        level: Coverage wanted, between 0 and 1.
        family: Family of the params, where `fit` gets params.
        threshold: The fitted state, for loading.

    Raises:
        ValueError: `level` is not inside (0, 1), or an unknown family.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> params = np.tile([[0.0, 1.0]], (999, 1))
    >>> calibrator = uq.calibration.SplitConformal(level=0.9)
    >>> calibrator = calibrator.fit(params, 3.0 * rng.normal(size=999))
    >>> lower, upper = calibrator.interval(np.array([[0.0, 1.0]]))
    >>> bool(4.5 < upper[0, 0] < 5.4)
    True

    References:
        Lei et al., 2018, "Distribution-Free Predictive Inference for
        Regression", JASA 113(523), arXiv:1604.04173.
    """

    def _scores(self, prediction, y):
        mean, std = to_array(prediction.mean), to_array(prediction.std)
        return np.abs(targets(y, mean.shape) - mean) / std

    def interval(self, prediction):
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        self._require_fit(self.threshold)
        prediction = read(prediction, self.family)
        mean, std = to_array(prediction.mean), to_array(prediction.std)
        return mean - self.threshold * std, mean + self.threshold * std


@register("calibration.ConformalQuantile")
class ConformalQuantile(_Conformal):
    """Conformalised quantile regression: the model's interval, widened.

    ```
    score = max(lower - y, y - upper)      of the model's interval at `level`
    interval = [lower - threshold, upper + threshold]
    ```

    A negative threshold makes the interval narrower. The guarantee is that of
    `SplitConformal`. Where it would turn the interval inside out, both ends
    are its middle.

    Args:
        level: Coverage wanted, between 0 and 1. A `Quantiles` family must
            have the levels `(1 -+ level) / 2`, or wider ones.
        family: Family of the params, where `fit` gets params.
        threshold: The fitted state, for loading.

    Raises:
        ValueError: `level` is not inside (0, 1), or an unknown family.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> params = np.tile([[-0.1, 0.1]], (999, 1))
    >>> calibrator = uq.calibration.ConformalQuantile(
    ...     level=0.9, family=uq.families.Quantiles([0.05, 0.95])
    ... )
    >>> calibrator = calibrator.fit(params, rng.normal(size=999))
    >>> lower, upper = calibrator.interval(params[:1])
    >>> bool(1.5 < upper[0, 0] < 1.8)
    True

    References:
        Romano, Patterson & Candes, 2019, "Conformalized Quantile Regression",
        NeurIPS, arXiv:1905.03222.
    """

    def _ends(self, prediction):
        return tuple(to_array(end) for end in prediction.interval(self.level))

    def _scores(self, prediction, y):
        lower, upper = self._ends(prediction)
        y = targets(y, lower.shape)
        return np.maximum(lower - y, y - upper)

    def interval(self, prediction):
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        self._require_fit(self.threshold)
        lower, upper = self._ends(read(prediction, self.family))
        middle = 0.5 * (lower + upper)
        return (
            np.minimum(lower - self.threshold, middle),
            np.maximum(upper + self.threshold, middle),
        )
