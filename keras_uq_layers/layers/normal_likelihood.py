from typing import Any

import keras
from keras import KerasTensor
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.constraints import MinValue
from keras_uq_layers.numerics import SCALE_FLOOR
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.numerics import masked_mean
from keras_uq_layers.numerics import normal_log_prob
from keras_uq_layers.numerics import position_mask
from keras_uq_layers.numerics import where_valid
from keras_uq_layers.numerics.dtypes import as_loss
from keras_uq_layers.registration import register


@register("NormalLikelihood")
class NormalLikelihood(keras.layers.Layer):
    """Fits a normal distribution to its input: the density, loc and scale.

    ```
    log_prob = -((x - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2
    prob     = exp(log_prob)
    ```

    `loc` and `scale` are trainable. With `add_nll=True` the layer adds its own
    loss: the negative log likelihood in nats, summed over the last axis and
    averaged over the other ones. Then `compile("adam")` and `fit(x)` without a
    `y` fit the distribution by maximum likelihood.

    A density may exceed 1, so a log density may be positive and the loss
    negative. Do not clip `prob`: a clipped value has no gradient, so a point
    far from `loc` would never pull it. Train on `log_prob`. Its gradient grows
    with the distance, while that of `prob` underflows to 0.

    A scale that is far too small has gradients of the order of `z^2 / scale`,
    and Adam remembers them for thousands of steps. Start with a wide scale, or
    clip the gradients with `keras.optimizers.Adam(clipnorm=1.0)`.

    Args:
        output: `"log_prob"` or `"prob"`.
        per_feature: One loc and scale for each entry of the last axis,
            instead of one pair for all.
        add_nll: Whether the layer adds the negative log likelihood as a loss.
        loc_initializer: Initializer of `loc`, the mean, in the unit of x.
        scale_initializer: Initializer of `scale`, the standard deviation, in
            the unit of x. Values below the floor start at the floor.
        scale_floor: Smallest scale, kept by a constraint. The gradient is not
            0 there, so that a scale at the floor can grow again.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of observations.
        mask: Boolean tensor of all axes but the last, or None. Positions that
            are masked out do not enter the loss; their output is 0.

    Input shape:
        `(batch, ..., D)`.

    Output shape:
        The same; float32 or wider, also under a mixed policy.

    Raises:
        ValueError: Unknown `output`, a `scale_floor` that is not positive, a
            last axis of unknown size with `per_feature`.

    Example:

    >>> layer = uq.NormalLikelihood()
    >>> round(float(layer(np.array([[0.0]]))[0, 0]), 4)
    -0.9189
    """

    def __init__(
        self,
        output: str = "log_prob",
        per_feature: bool = False,
        add_nll: bool = False,
        loc_initializer: Identifier = "zeros",
        scale_initializer: Identifier = "ones",
        scale_floor: float = SCALE_FLOOR,
        **kwargs: Any,
    ):
        # No autocast: likelihoods never compute in half precision.
        super().__init__(autocast=False, **kwargs)
        self.output_kind = arguments.one_of("output", output, ("log_prob", "prob"))
        self.per_feature = arguments.boolean("per_feature", per_feature)
        self.add_nll = arguments.boolean("add_nll", add_nll)
        self.loc_initializer = keras.initializers.get(loc_initializer)
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.scale_floor = arguments.positive_float("scale_floor", scale_floor)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) < 2:
            raise ValueError(
                "`NormalLikelihood` needs an input of shape (batch, ..., D). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if self.per_feature and input_shape[-1] is None:
            raise ValueError(
                "With `per_feature=True` the last axis of the input must have a "
                f"known size. Received: input_shape={tuple(input_shape)}"
            )
        shape = (input_shape[-1],) if self.per_feature else ()
        dtype = at_least_float32(self.variable_dtype)
        floor = MinValue(self.scale_floor)
        self.loc = self.add_weight(
            name="loc", shape=shape, dtype=dtype, initializer=self.loc_initializer
        )
        self.scale = self.add_weight(
            name="scale",
            shape=shape,
            dtype=dtype,
            # Keras applies a constraint after a step, not to the first value.
            initializer=lambda shape, dtype: floor(
                ops.convert_to_tensor(self.scale_initializer(shape, dtype=dtype))
            ),
            constraint=floor,
        )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        valid = position_mask(mask, tuple(inputs.shape[:-1]))
        inputs = ops.cast(inputs, self._output_dtype)
        inputs = where_valid(valid, inputs)
        log_prob = normal_log_prob(inputs, self.loc, self.scale)
        if self.add_nll:
            nll = -masked_mean(ops.sum(log_prob, axis=-1), valid)
            self.add_loss(as_loss(nll))
        output = log_prob if self.output_kind == "log_prob" else ops.exp(log_prob)
        return where_valid(valid, output, 0.0)

    @property
    def _output_dtype(self) -> str:
        return at_least_float32(self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def compute_output_spec(self, inputs: KerasTensor, mask: Any = None) -> KerasTensor:
        return KerasTensor(inputs.shape, dtype=self._output_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "output": self.output_kind,
            "per_feature": self.per_feature,
            "add_nll": self.add_nll,
            "loc_initializer": keras.initializers.serialize(self.loc_initializer),
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
            "scale_floor": self.scale_floor,
        }
