from typing import Any

from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics import SCALE_FLOOR
from keras_uq_layers.registration import register


@register("DistributionHead")
class DistributionHead(Head):
    """Output layer that emits the parameters of a distribution.

    ```
    params = map(inputs @ kernel + bias)
    normal:  [loc | scale],  scale = scale_floor + 1 / sqrt(precision),
                             loc = l / sqrt(precision)
    ```

    It is the last layer of a model that is trained with
    `uq.losses.NegativeLogLikelihood`. The params are constrained and in the
    unit of y: with one unit and the normal family, `model.predict(x)[:, 1]` is
    a standard deviation. The head computes and emits float32 or wider,
    whatever the dtype policy.

    Before the first step the scale is `initial_scale` for every input, and loc is
    the output of a `Dense`: for targets of unit variance the loss is close to that
    of a model that ignores x. For other targets call `adapt(y)` before `fit`.

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
        parameterization: Of families with a loc and a scale, the map from the
            features `l` and `s` to both, written here for an `initial_scale` of 1.
            `"signal_to_noise"`, the default: `scale = 1 / sqrt(p)` and
            `loc = scale * l`, with `p = (s + sqrt(s^2 + 4)) / 2`: a row that is
            fitted badly keeps more of its weight in the fit of loc.
            `"scale"`, the classic: `loc = l`, `scale = softplus(s + log(e - 1))`.
            Take it for the encoder of a variational autoencoder. None: the
            default, and for other families their only map. The page "One mean
            and one variance" of the docs compares both on data. In units of
            `initial_scale`, scale is at most the square root of the largest
            number of the dtype, 1.8e19 in float32 and 1.3e154 in float64; of
            the classic map at most that number itself, 3.4e38 and 1.8e308.
        use_bias: Whether the dense map has a bias.
        kernel_initializer: Initializer of the kernel. The parameters that say
            how far y spreads (`Family.spread`), such as the scale, start with a
            kernel of zeros.
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
            scale that is not positive and finite, an `initial_scale` that is
            not above `scale_floor`, or a `parameterization` that the family
            does not have.

    Example:

    >>> model = keras.Sequential([uq.DistributionHead(1)])
    >>> model.compile("adam", loss=uq.losses.NegativeLogLikelihood())
    >>> model.predict(np.ones((4, 3)), verbose=0).shape
    (4, 2)

    References:
        Nix & Weigend, 1994, "Estimating the mean and variance of the target
        probability distribution", ICNN, doi:10.1109/ICNN.1994.374138.
        Olsen, 1978, "Note on the uniqueness of the maximum likelihood estimator
        for the Tobit model", Econometrica 46(5), doi:10.2307/1911445, loc / scale.
    """

    def __init__(
        self,
        units: int,
        family: Identifier = "normal",
        scale_floor: float = SCALE_FLOOR,
        initial_scale: float = 1.0,
        parameterization: str | None = None,
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
        self.parameterization = families.parameterization(self.family, parameterization)
        self._offset = None
        self.scale_floor = arguments.positive_float("scale_floor", scale_floor)
        self.initial_scale = arguments.positive_float("initial_scale", initial_scale)
        # The scale of a Laplace, for example, is less than its standard deviation.
        lowest = self.initial_scale
        if self.parameterization is not None:
            _, scale, *_ = self.family.initial_parts(self.initial_scale)
            lowest = min(lowest, scale)
        if lowest <= self.scale_floor:
            rule = f"above `scale_floor={scale_floor}`"
            if lowest < self.initial_scale:
                rule += f", and so must its `scale` be, which is {lowest:.4g}"
            raise arguments.error("initial_scale", rule, initial_scale)

    def _features_size(self) -> int:
        return self.family.params_size(self.units)

    def _params_size(self) -> int:
        return self.family.params_size(self.units)

    def _initial_kernel(self, shape: Shape, dtype: str) -> Tensor:
        sizes = self.family.block_sizes(self.units)
        at_zero = [name in self.family.spread for name in self.family.parameters]
        blocks = list(zip(sizes, at_zero, strict=True))
        # One draw: an initializer with a seed gives two draws the same numbers.
        width = sum(size for size, zero in blocks if not zero)
        drawn = super()._initial_kernel((shape[0], width), dtype)
        columns, start = [], 0
        for size, zero in blocks:
            if zero:
                columns.append(ops.zeros((shape[0], size), dtype))
            else:
                columns.append(drawn[:, start : start + size])
                start += size
        return ops.concatenate(columns, axis=1)

    def _to_params(self, features: Tensor) -> Tensor:
        if self.parameterization is not None:
            return self.family.parameterize(
                features,
                self.parameterization,
                self.initial_scale,
                self.scale_floor,
            )
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
            "parameterization": self.parameterization,
        }
