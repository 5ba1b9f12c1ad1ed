import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import ParamsPrediction
from keras_uq_layers.calibration._base import targets
from keras_uq_layers.calibration._base import to_array
from keras_uq_layers.registration import register


@register("calibration.ScaleCalibration")
class ScaleCalibration(Calibrator):
    """One factor on the scale of a location-scale family, for each output.

    ```
    scale -> factor * scale,  factor = sqrt(mean(((y - mean) / std)^2))
    ```

    The regression twin of temperature scaling: the mean stays, the spread is
    made right on average. The guarantee: the mean squared standardised
    residual of the calibration set is exactly 1, which for a normal is the
    factor of highest likelihood; of new data up to a relative error of about
    `sqrt((kurtosis - 1) / n)`. It corrects intervals where the shape of the
    family is right; where it is not, use `SplitConformal`.

    Args:
        family: Family of the params, with a location and a scale.
        factor: The fitted state, for loading.

    Raises:
        ValueError: The family has no location and scale, or is unknown.

    Example:

    >>> params = np.tile([[0.0, 1.0]], (4, 1))
    >>> calibrator = uq.calibration.ScaleCalibration()
    >>> calibrator = calibrator.fit(params, np.array([-2.0, 2.0, -2.0, 2.0]))
    >>> float(calibrator.transform(params)[0, 1])
    2.0

    References:
        Levi et al., 2022, "Evaluating and Calibrating Uncertainty Prediction
        in Regression Tasks", Sensors 22(15), arXiv:1905.11659.
    """

    def __init__(self, family="normal", factor=None):
        self.family = families.get(family)
        bounded = np.isfinite(self.family.lower) or np.isfinite(self.family.upper)
        if self.family.target_unit != "affine" or bounded:
            raise arguments.error(
                "family", "one with a location and a scale, without bounds", self.family
            )
        self.factor = None if factor is None else np.asarray(factor, "float64")

    def fit(self, prediction, y):
        """Sets the factor from data that the model was not trained on.

        Args:
            prediction: A `Prediction`, or params `(N, P * D)`.
            y: Targets `(N, D)`, or `(N,)` where `D` is 1.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: Shapes do not agree, `y` is not finite, fewer than two
                points, or residuals that are all 0.
        """
        mean, std = self._moments(prediction)
        z = ((targets(y, mean.shape) - mean) / std).reshape(-1, mean.shape[-1])
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

    def _moments(self, prediction):
        if not hasattr(prediction, "interval"):
            prediction = ParamsPrediction(prediction, self.family)
        return to_array(prediction.mean), to_array(prediction.std)

    def transform(self, params):
        """The params with the scale multiplied, `(N, P * D)`."""
        self._require_fit(self.factor)
        params = ops.convert_to_tensor(params)
        mean = self.family.mean(params)
        factor = ops.convert_to_tensor(self.factor, dtype=mean.dtype)
        moved = self.family.affine(params, (1.0 - factor) * mean, factor)
        return ops.convert_to_numpy(moved)

    def interval(self, prediction, level=0.9):
        """Lower and upper ends, two arrays `(N, D)`, in the unit of y."""
        self._require_fit(self.factor)
        if not hasattr(prediction, "interval"):
            prediction = ParamsPrediction(prediction, self.family)
        mean = to_array(prediction.mean)
        lower, upper = (to_array(end) for end in prediction.interval(level))
        return (
            mean + self.factor * (lower - mean),
            mean + self.factor * (upper - mean),
        )

    def get_config(self):
        return {
            "family": families.serialize(self.family),
            "factor": None if self.factor is None else self.factor.tolist(),
        }
