from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Normal
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics import SCALE_FLOOR
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register


@register("ConstantVarianceHead")
class ConstantVarianceHead(Head):
    """Output layer of a normal whose scale is the same for all examples.

    ```
    params = [loc | scale],  loc = inputs @ kernel + bias
    scale fixed, or scale_floor + softplus(raw_scale) where it is trainable
    ```

    Training with `uq.losses.NegativeLogLikelihood` is least squares where the
    scale is fixed. A trainable scale becomes the standard deviation of the
    residuals. Use the head as the baseline to a `DistributionHead`, or as the
    decoder of a variational autoencoder for continuous data.

    Args:
        units: Number of outputs `D`, a positive integer.
        scale: The standard deviation: a float, or one float per output. In
            the unit of y or, after `adapt(y)`, in standard deviations of y.
            Where it is trainable, its initial value.
        trainable_scale: Whether the scale is learned.
        scale_floor: Smallest trainable scale, in the same unit.
        use_bias: Whether the dense map has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of features.

    Input shape:
        `(batch, ..., F)`.

    Output shape:
        `(batch, ..., 2 * D)`, read by the family `"normal"`.

    Raises:
        ValueError: `units` is not a positive integer; `scale` is not positive
            and finite, not one number per output, or, where it is trainable,
            not above `scale_floor`.

    Example:

    >>> head = uq.ConstantVarianceHead(1, scale=0.5)
    >>> float(head(np.ones((2, 3)))[0, 1])
    0.5
    """

    def __init__(
        self,
        units: int,
        scale: float | Sequence[float] = 1.0,
        trainable_scale: bool = False,
        scale_floor: float = SCALE_FLOOR,
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
        self.family = Normal()
        self.trainable_scale = arguments.boolean("trainable_scale", trainable_scale)
        self.scale_floor = arguments.positive_float("scale_floor", scale_floor)
        if isinstance(scale, (list, tuple, np.ndarray)) and np.ndim(scale) == 1:
            if len(scale) != self.units:
                raise arguments.error(
                    "scale", f"one number, or one per output ({self.units})", scale
                )
            self.scale = [arguments.positive_float("scale", s) for s in scale]
        else:
            self.scale = arguments.positive_float("scale", scale)
        if self.trainable_scale and np.min(self.scale) <= self.scale_floor:
            raise arguments.error(
                "scale", f"above `scale_floor={scale_floor}` to be trainable", scale
            )

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.trainable_scale:
            self.raw_scale = self.add_weight(
                name="raw_scale",
                shape=np.shape(self.scale),
                dtype=self._output_dtype,
                initializer=lambda shape, dtype: positive_inverse(
                    ops.convert_to_tensor(self.scale, dtype), self.scale_floor
                ),
            )

    def _features_size(self) -> int:
        return self.units

    def _params_size(self) -> int:
        return self.family.params_size(self.units)

    def _to_params(self, loc: Tensor) -> Tensor:
        if self.trainable_scale:
            scale = positive(self.raw_scale, self.scale_floor)
        else:
            scale = ops.convert_to_tensor(self.scale, loc.dtype)
        return self.family.join(loc, ops.broadcast_to(scale, ops.shape(loc)))

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "scale": self.scale,
            "trainable_scale": self.trainable_scale,
            "scale_floor": self.scale_floor,
        }
