from typing import Any

import keras
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.constraints import MinValue
from keras_uq_layers.numerics import bump
from keras_uq_layers.numerics import bump_threshold
from keras_uq_layers.registration import register

_PROFILES = {"smooth": bump, "threshold": bump_threshold}


@register("BumpLayer")
class BumpLayer(keras.layers.Layer):
    """A bump of trainable half-width `sigma`, applied element by element.

    ```
    "smooth":     f(x) = exp(-sigma^2 / (sigma^2 - x^2))
                         where |x| < sigma, else 0
    "threshold":  f(x) = exp(-sigma / (sigma - x^2))
                         where |x| < min(sigma, sqrt(sigma)), else 0
    ```

    Both have height `exp(-1)` at 0 and are equal at `sigma = 1`. The smooth
    profile is infinitely differentiable. The other one jumps at its edge where
    `sigma < 1`. Value and gradient are finite for every finite input and every
    finite sigma. A NaN in the input stays in its own element.

    Sigma learns only while some inputs lie inside the support. Outside, the
    function and its gradient are 0. So start with a sigma that is wide enough.

    Args:
        profile: `"smooth"` or `"threshold"`.
        sigma_initializer: Initializer of sigma. Constraints do not act on
            initial values; at a sigma of 0 output and gradient are 0.
        sigma_constraint: Constraint of sigma. `"default"` is
            `MinValue(min_sigma)`; `None` leaves sigma free.
        min_sigma: The smallest sigma of the default constraint, in the unit
            of the input. At values such as 1e-6 no input lies inside the
            support any more, and sigma no longer learns.
        per_feature: One sigma for each entry of the last axis, instead of
            one for all.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of any shape, of at least rank 2 when `per_feature`.

    Input shape:
        `(batch, ...)`.

    Output shape:
        The same.

    Raises:
        ValueError: Unknown profile, a `min_sigma` that is not positive, a
            last axis of unknown size with `per_feature`.

    Example:

    >>> layer = uq.BumpLayer(sigma_initializer=keras.initializers.Constant(2.0))
    >>> y = layer(np.array([[0.0, 1.0, 2.0]]))
    >>> [round(float(v), 4) for v in y[0]]
    [0.3679, 0.2636, 0.0]

    References:
        Lee, 2012, "Introduction to Smooth Manifolds", 2nd ed., lemma 2.22.
    """

    def __init__(
        self,
        profile: str = "smooth",
        sigma_initializer: Identifier = "ones",
        sigma_constraint: Identifier = "default",
        min_sigma: float = 1e-3,
        per_feature: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.profile = arguments.one_of("profile", profile, tuple(_PROFILES))
        self.min_sigma = arguments.positive_float("min_sigma", min_sigma)
        self.per_feature = arguments.boolean("per_feature", per_feature)
        self.sigma_initializer = keras.initializers.get(sigma_initializer)
        if sigma_constraint == "default":
            sigma_constraint = MinValue(self.min_sigma)
        self.sigma_constraint = keras.constraints.get(sigma_constraint)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if self.per_feature and (len(input_shape) < 2 or input_shape[-1] is None):
            raise ValueError(
                "With `per_feature=True` the last axis of the input must have a "
                f"known size. Received: input_shape={tuple(input_shape)}"
            )
        self.sigma = self.add_weight(
            name="sigma",
            shape=(input_shape[-1],) if self.per_feature else (),
            initializer=self.sigma_initializer,
            constraint=self.sigma_constraint,
            # A sigma above 65504 would become inf in float16.
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        inputs = ops.cast(inputs, self.compute_dtype)
        return _PROFILES[self.profile](inputs, self.sigma)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "profile": self.profile,
            "sigma_initializer": keras.initializers.serialize(self.sigma_initializer),
            "sigma_constraint": keras.constraints.serialize(self.sigma_constraint),
            "min_sigma": self.min_sigma,
            "per_feature": self.per_feature,
        }
