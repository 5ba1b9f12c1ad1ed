from collections.abc import Sequence
from typing import Self

import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import as_rows
from keras_uq_layers.calibration._base import check_prediction
from keras_uq_layers.calibration._base import has_std
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register


@register("calibration.IsotonicCalibration")
class IsotonicCalibration(Calibrator):
    """Corrects all quantiles of a model by an increasing map of probabilities.

    ```
    R(p) = share of calibration targets with F(y) <= p
    recalibrated cdf(y) = R(F(y)), quantile(q) = Q(R^-1(q))
    ```

    `F` is the predicted distribution function and `Q` its inverse. `R` is the
    empirical distribution function of the probability integral transforms
    (PITs) `F(y)`, linear between them; it is the isotonic regression of the
    source below, because a share of sorted values is increasing already.

    All quantiles and intervals are corrected, not one level only. The
    guarantee is asymptotic and holds however wrong the model is: as the
    calibration set grows, a share `q` of new targets lies below the
    recalibrated quantile `q`. With n points the coverage is off by about
    `sqrt(q (1 - q) / n)`. For one level with a guarantee at any n use
    `SplitConformal`. With several outputs their PITs are pooled: one map
    serves all.

    Args:
        knots: The fitted state, for loading: two rows of numbers from 0 to 1,
            the PITs and their shares.

    Raises:
        ValueError: `knots` are not such a map.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 999, 1)), "normal")
    >>> calibrator = uq.calibration.IsotonicCalibration()
    >>> calibrator = calibrator.fit(prediction, 3.0 * rng.normal(size=999))
    >>> lower, upper = calibrator.interval(prediction, level=0.9)
    >>> bool(4.3 < upper[0, 0] < 5.6)
    True

    References:
        Kuleshov, Fenner & Ermon, 2018, "Accurate Uncertainties for Deep
        Learning Using Calibrated Regression", ICML, arXiv:1807.00263.
    """

    def __init__(self, knots: Sequence[Sequence[float]] | Array | None = None) -> None:
        self.knots: Array | None = None
        if knots is not None:
            self.knots = np.asarray(knots, dtype="float64")
            if not _is_map(self.knots):
                raise arguments.error(
                    "knots", "two increasing rows of numbers, from 0 to 1", knots
                )

    def fit(self, prediction: Prediction, y: Tensor) -> Self:
        """Fits the map from data that the model was not trained on.

        Args:
            prediction: A `Prediction` of N examples, with its samples.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y` or the prediction is not
                finite, the prediction is a plain one, without a distribution, or
                fewer than two points.
        """
        if not has_std(check_prediction(prediction)):
            raise ValueError(
                "`prediction` must have a distribution, which a plain prediction has "
                "not. Use `SplitConformal`. Received: a prediction of "
                f"{prediction.passes} pass(es) of the family {prediction.family!r}"
            )
        pit = prediction.cdf(y)
        targets(y, pit.shape)
        pit = as_rows(pit).ravel()
        if len(pit) < 2:
            raise ValueError(
                "Isotonic calibration must have at least 2 points. "
                f"Received: {len(pit)} point(s)"
            )
        pit, counts = np.unique(pit, return_counts=True)
        # n + 1 and not n: the largest PIT of n is not the end of the range.
        share = np.cumsum(counts) / (counts.sum() + 1.0)
        self.knots = np.array([[0.0, *pit, 1.0], [0.0, *share, 1.0]])
        return self

    def cdf(self, prediction: Prediction, y: Tensor) -> Array:
        """Recalibrated probability of a value up to y, `(N, D)`."""
        knots = self._require_fit(self.knots)
        return np.interp(check_prediction(prediction).cdf(y), *knots)

    def quantile(self, prediction: Prediction, q: float) -> Array:
        """Recalibrated quantile `(N, D)`, in the unit of y; `q` is a float."""
        pit, share = self._require_fit(self.knots)
        q = arguments.open_probability("q", q)
        if not share[1] - 1e-9 <= q <= share[-2] + 1e-9:
            needed = int(np.ceil(1.0 / min(q, 1.0 - q) - 1e-9)) - 1
            raise ValueError(
                f"The quantile at {q:g} must have at least {needed} calibration points "
                f"(more with ties). Received: shares from {share[1]:g} to "
                f"{share[-2]:g}"
            )
        return check_prediction(prediction).quantile(float(np.interp(q, share, pit)))

    def interval(
        self, prediction: Prediction, level: float = 0.9
    ) -> tuple[Array, Array]:
        """Lower and upper ends of a central interval, two arrays `(N, D)`."""
        tail = 0.5 * (1.0 - arguments.open_probability("level", level))
        return self.quantile(prediction, tail), self.quantile(prediction, 1.0 - tail)

    def get_config(self) -> Config:
        return {"knots": None if self.knots is None else self.knots.tolist()}


def _is_map(knots: Array) -> bool:
    if knots.ndim != 2 or len(knots) != 2 or knots.shape[1] < 3:
        return False
    ends = (knots[:, 0] == 0.0).all() and (knots[:, -1] == 1.0).all()
    return bool(ends and (np.diff(knots, axis=1) >= 0.0).all())
