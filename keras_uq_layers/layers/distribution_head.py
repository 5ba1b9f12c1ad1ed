from typing import Any

from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics import SCALE_FLOOR
from keras_uq_layers.registration import register


@register("DistributionHead")
class DistributionHead(Head):
    """Output layer that emits the parameters of a distribution.

    ```
    params = family.constrain(inputs @ kernel + bias)
    normal:  [loc | scale],  scale = scale_floor + softplus(...)
    ```

    It is the last layer of a model that is trained with
    `uq.losses.NegativeLogLikelihood`. The params are constrained and in the
    unit of y: with one unit and the normal family, `model.predict(x)[:, 1]` is
    a standard deviation. The head computes and emits float32 or wider,
    whatever the dtype policy.

    Do not compile the model with `metrics=["mae"]`, which would average over
    loc and scale. Use `uq.metrics.MeanAbsoluteError()`.

    Args:
        units: Number of outputs `D`, a positive integer.
        family: Name or object of the family, see `uq.families`.
        scale_floor: Smallest scale. In the unit of y or, after `adapt(y)`,
            in standard deviations of y. Families without a scale have a floor
            of their own and ignore it.
        initial_scale: Standard deviation emitted for features of zero, in the
            same unit. Families of counts and rates, whose parameters have no
            unit, ignore it.
        use_bias: Whether the dense map has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of features.

    Input shape:
        `(batch, ..., F)`, for example `(B, F)`, `(B, T, F)`, `(B, H, W, F)`.

    Output shape:
        `(batch, ..., P * D)`, `P` the number of parameters of the family.

    Raises:
        ValueError: `units` is not a positive integer, an unknown family, a
            scale that is not positive and finite, or an `initial_scale` that
            is not above `scale_floor`.

    Example:

    >>> model = keras.Sequential([uq.DistributionHead(1)])
    >>> model.compile("adam", loss=uq.losses.NegativeLogLikelihood())
    >>> model.predict(np.ones((4, 3)), verbose=0).shape
    (4, 2)

    References:
        Nix & Weigend, 1994, "Estimating the mean and variance of the target
        probability distribution", ICNN, doi:10.1109/ICNN.1994.374138.
    """

    def __init__(
        self,
        units: int,
        family: Identifier = "normal",
        scale_floor: float = SCALE_FLOOR,
        initial_scale: float = 1.0,
        use_bias: bool = True,
        kernel_initializer: Identifier = "glorot_uniform",
        bias_initializer: Identifier = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        **kwargs: Any,
    ):
        super().__init__(
            units,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            **kwargs,
        )
        self.family = families.get(family)
        self._offset = None
        self.scale_floor = arguments.positive_float("scale_floor", scale_floor)
        self.initial_scale = arguments.positive_float("initial_scale", initial_scale)
        if self.initial_scale <= self.scale_floor:
            raise arguments.error(
                "initial_scale", f"above `scale_floor={scale_floor}`", initial_scale
            )

    def _features_size(self) -> int:
        return self.family.params_size(self.units)

    def _params_size(self) -> int:
        return self.family.params_size(self.units)

    def _to_params(self, features: Tensor) -> Tensor:
        # With this offset features of zero give the initial scale.
        offset = ops.cast(self._offset_features(), features.dtype)
        return self.family.constrain(features + offset, self.scale_floor)

    def _offset_features(self) -> Tensor:
        if self._offset is not None:
            return self._offset
        offset = self.family.initial_features(
            self.units, self.initial_scale, self.scale_floor
        )
        # A constant, which eager calls need not compute again. In a graph it
        # has no value to keep.
        if not _keras.is_traced(offset):
            self._offset = ops.convert_to_numpy(offset)
        return offset

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "family": families.serialize(self.family),
            "scale_floor": self.scale_floor,
            "initial_scale": self.initial_scale,
        }
