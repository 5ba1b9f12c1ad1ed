from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._base import Family
from keras_uq_layers.registration import register

WHAT_TO_ADD = (
    "End the model in `uq.DistributionHead`, or calibrate its predictions with "
    "`uq.calibration.SplitConformal`."
)


@register("families.Point")
class Point(Family):
    """A prediction alone, without a distribution: what any regression model emits.

    ```
    params = [value],  Y = value with probability 1
    ```

    `uq.predict` reads a plain Keras model so, for example one that ends in
    `Dense(1)` and was trained with squared errors. The value is the mean. It
    says nothing about its error: the variance is 0. In a `Prediction` the
    aleatoric part is 0, and the epistemic part and the quantiles are those of
    the passes of the model.

    For an interval that covers the data, put `uq.calibration.SplitConformal`
    around the prediction, or end the model in `uq.DistributionHead`.

    Example:

    >>> family = uq.families.Point()
    >>> params = np.array([[3.0]])
    >>> float(family.mean(params)[0, 0]), float(family.variance(params)[0, 0])
    (3.0, 0.0)
    >>> float(family.crps(np.array([[5.0]]), params)[0, 0])  # the absolute error
    2.0
    """

    name = "point"
    parameters = ("value",)
    target_unit = "affine"

    def constrain_parts(self, value: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        return (value,)

    def unconstrain_parts(self, value: Tensor, *, scale_floor: float) -> tuple[Tensor]:
        return (value,)

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        return (0.0,)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        """A point has no density: always an error that says what to add."""
        raise NotImplementedError(
            f"The family {self.name!r} has no log_prob: a prediction alone says "
            f"nothing about its error. {WHAT_TO_ADD}"
        )

    def mean(self, params: Tensor) -> Tensor:
        (value,) = self.split(params)
        return value

    def variance(self, params: Tensor) -> Tensor:
        (value,) = self.split(params)
        return ops.zeros_like(value)

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        (value,) = self.split(params)
        return ops.cast(self.align(y, params) >= value, value.dtype)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        return (y >= parts[0]).astype("float64")

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        """The value, whatever the probability."""
        p, params = self._spread(p, params)
        return params

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        return self.quantile(noise, params)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """The absolute error of each output: `(..., D)`."""
        (value,) = self.split(params)
        return ops.abs(self.align(y, params) - value)

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        return shift + factor * params
