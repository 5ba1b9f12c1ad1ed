import numpy as np

from keras_uq_layers import families
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import open_level
from keras_uq_layers.calibration._base import read
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.calibration._base import to_array
from keras_uq_layers.registration import register


@register("calibration.IsotonicCalibration")
class IsotonicCalibration(Calibrator):
    """Isotonic recalibration of the probability integral transform (PIT).

    ```
    R(p) = share of calibration targets with F(y) <= p, isotonic in p
    recalibrated cdf(y) = R(F(y)), quantile(q) = Q(R^-1(q))
    ```

    All quantiles and intervals are corrected, not one level only. The
    guarantee is asymptotic: as the calibration set grows, a share `q` of new
    targets lies below the recalibrated quantile `q`, for a model however
    wrong; with n points the coverage is off by about `sqrt(q (1 - q) / n)`.
    For one level with a guarantee at any n use `SplitConformal`.

    Needs scikit-learn. For one output, or the PITs of all outputs pooled.

    Args:
        family: Family of the params, where `fit` gets params; with a `cdf`.
        knots: The fitted state, for loading.

    Raises:
        ValueError: An unknown family.

    References:
        Kuleshov, Fenner & Ermon, 2018, "Accurate Uncertainties for Deep
        Learning Using Calibrated Regression", ICML, arXiv:1807.00263.
    """

    def __init__(self, family="normal", knots=None):
        self.family = families.get(family)
        self.knots = None if knots is None else np.asarray(knots, "float64")

    def fit(self, prediction, y):
        """Fits the map from data that the model was not trained on.

        Args:
            prediction: A `Prediction`, or params `(N, P * D)`.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ImportError: scikit-learn is not installed.
            ValueError: Shapes do not agree, or fewer than two points.
        """
        from sklearn.isotonic import IsotonicRegression

        prediction = read(prediction, self.family)
        pit = np.sort(to_array(prediction.cdf(targets(y, _shape(prediction)))).ravel())
        if len(pit) < 2:
            raise ValueError(
                "Isotonic calibration must have at least 2 points. "
                f"Received: {len(pit)} point(s)"
            )
        # n + 1 and not n: the largest PIT of n is not the end of the range.
        share = np.searchsorted(pit, pit, side="right") / (len(pit) + 1.0)
        model = IsotonicRegression(y_min=0.0, y_max=1.0).fit(pit, share)
        inner = np.stack([model.X_thresholds_, model.y_thresholds_])
        self.knots = np.concatenate([[[0.0], [0.0]], inner, [[1.0], [1.0]]], axis=1)
        return self

    def cdf(self, prediction, y):
        """Recalibrated probability of a value up to y, `(N, D)`."""
        self._require_fit(self.knots)
        prediction = read(prediction, self.family)
        pit = to_array(prediction.cdf(targets(y, _shape(prediction))))
        return np.interp(pit, *self.knots)

    def quantile(self, prediction, q):
        """Recalibrated quantile `(N, D)`, in the unit of y; `q` is a float."""
        self._require_fit(self.knots)
        q = open_level("q", q)
        pit, share = self.knots
        if not share[1] - 1e-9 <= q <= share[-2] + 1e-9:
            needed = int(np.ceil(1.0 / min(q, 1.0 - q) - 1e-9)) - 1
            raise ValueError(
                f"The quantile at {q:g} must have at least {needed} calibration points "
                f"(more with ties). Received: shares from {share[1]:g} to "
                f"{share[-2]:g}"
            )
        p = float(np.interp(q, share, pit))
        return to_array(read(prediction, self.family).quantile(p))

    def interval(self, prediction, level=0.9):
        """Lower and upper ends of a central interval, two arrays `(N, D)`."""
        tail = 0.5 * (1.0 - open_level("level", level))
        return self.quantile(prediction, tail), self.quantile(prediction, 1.0 - tail)

    def get_config(self):
        return {
            "family": families.serialize(self.family),
            "knots": None if self.knots is None else self.knots.tolist(),
        }


def _shape(prediction):
    return np.shape(to_array(prediction.quantile(0.5)))
