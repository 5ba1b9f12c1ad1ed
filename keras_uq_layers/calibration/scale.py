from typing import Self

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import as_rows
from keras_uq_layers.calibration._base import check_prediction
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.registration import register


@register("calibration.ScaleCalibration")
class ScaleCalibration(Calibrator):
    """Multiplies the spread of a prediction by one factor for each output.

    ```
    y -> mean + factor * (y - mean),  factor = sqrt(mean(((y - mean) / std)^2))
    ```

    The equivalent of temperature scaling for a regression: the mean stays,
    and the spread becomes right on average. The guarantee: the mean squared
    standardised residual of the calibration set is exactly 1. For one normal
    distribution this is the factor of highest likelihood. For new data it
    holds up to a relative error of about `sqrt((kurtosis - 1) / n)`. The
    intervals become right where the shape of the family is right; where it is
    not, use `SplitConformal`.

    Args:
        factor: The fitted state, one number for each output, for loading.

    Raises:
        ValueError: A factor is not a positive finite number.

    Example:

    >>> prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 4, 1)), "normal")
    >>> calibrator = uq.calibration.ScaleCalibration()
    >>> calibrator = calibrator.fit(prediction, np.array([-2.0, 2.0, -2.0, 2.0]))
    >>> calibrator.transform(prediction).std[0]
    array([2.])

    References:
        Levi et al., 2022, "Evaluating and Calibrating Uncertainty Prediction
        in Regression Tasks", Sensors 22(15), arXiv:1905.11659.
    """

    def __init__(self, factor: Floats | None = None) -> None:
        self.factor: Array | None = None
        if factor is not None:
            self.factor = np.atleast_1d(np.asarray(factor, dtype="float64"))
            if not (np.isfinite(self.factor) & (self.factor > 0)).all():
                raise arguments.error(
                    "factor", "a positive finite number for each output", factor
                )

    def fit(self, prediction: Prediction, y: Tensor) -> Self:
        """Sets the factor from data that the model was not trained on.

        Args:
            prediction: A `Prediction` of N examples.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: A family without a location and a scale, or with
                bounds; shapes do not agree, `y` or the prediction is not
                finite, fewer than two points, or residuals that are all 0.
        """
        mean, std = _check(prediction).mean, prediction.std
        with np.errstate(divide="ignore", invalid="ignore"):
            z = as_rows((targets(y, mean.shape) - mean) / std)
        if len(z) < 2:
            raise ValueError(
                "Scale calibration must have at least 2 points. "
                f"Received: {len(z)} point(s)"
            )
        factor = np.sqrt(np.mean(z**2, axis=0))
        if not (factor > 0).all():
            raise ValueError(
                "`y` must differ from the mean somewhere. Received: residuals of 0"
            )
        self.factor = factor
        return self

    def transform(self, prediction: Prediction) -> Prediction:
        """The prediction with the spread multiplied and the same mean.

        Args:
            prediction: A `Prediction` of N examples, with its samples.

        Returns:
            A `Prediction` of the same family: every component is moved to or
            from the mean of the mixture, and scaled.
        """
        mean = _check(prediction).mean
        factor = self._of_outputs(self.factor, mean.shape[-1])
        samples = ops.convert_to_tensor(prediction.samples)
        family, dtype = prediction.family, samples.dtype
        moved = family.affine(
            samples,
            ops.convert_to_tensor((1.0 - factor) * mean, dtype=dtype),
            ops.convert_to_tensor(factor, dtype=dtype),
        )
        return Prediction(ops.convert_to_numpy(moved), family)

    def interval(
        self, prediction: Prediction, level: float = 0.9
    ) -> tuple[Array, Array]:
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        return self.transform(prediction).interval(level)

    def get_config(self) -> Config:
        return {"factor": None if self.factor is None else self.factor.tolist()}


def _check(prediction: Prediction) -> Prediction:
    family = check_prediction(prediction).family
    bounded = np.isfinite(family.lower) or np.isfinite(family.upper)
    if family.target_unit != "affine" or bounded:
        raise ValueError(
            "`prediction` must be of a family with a location and a scale, without "
            f"bounds. Received: a prediction of the family {family!r}"
        )
    return prediction
