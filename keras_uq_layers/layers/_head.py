"""The abstract class of output heads: a dense map and the unit of the target."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import KerasTensor
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.families._tag import attach_family
from keras_uq_layers.numerics import at_least_float32


class Head(keras.layers.Layer):
    """Abstract: a `Dense` layer whose output becomes a params tensor.

    A subclass sets `family`, and gives `_features_size()`, `_params_size()` and
    `_to_params(features)`, in standardised units. This class converts the
    params to the unit of `y`, see `Family.target_unit`.
    """

    family: Family

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Identifier = "glorot_uniform",
        bias_initializer: Identifier = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        **kwargs: Any,
    ):
        # No autocast: the product itself must run in float32. A float16 product
        # overflows before its result is cast.
        super().__init__(autocast=False, **kwargs)
        self.units = arguments.positive_int("units", units)
        self.use_bias = arguments.boolean("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.supports_masking = True
        self._target = (np.zeros(self.units), np.ones(self.units))

    @property
    def _output_dtype(self) -> str:
        return at_least_float32(self.compute_dtype)

    def build(self, input_shape: Shape) -> None:
        self.dense = keras.layers.Dense(
            self._features_size(),
            use_bias=self.use_bias,
            kernel_initializer=self._initial_kernel,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            dtype=self._output_dtype,
            name="dense",
        )
        self.dense.build(input_shape)
        loc, scale = self._target
        if self.family.target_unit == "affine":
            self.target_loc = self._add_target_weight("target_loc", loc)
        if self.family.target_unit is not None:
            self.target_scale = self._add_target_weight("target_scale", scale)

    def _initial_kernel(self, shape: Shape, dtype: str) -> Tensor:
        return self.kernel_initializer(shape, dtype=dtype)

    def _add_target_weight(self, name: str, value: Array) -> keras.Variable:
        # The value is the initial value, not assigned: Keras may build a layer
        # in a scope that forgets assignments.
        return self.add_weight(
            name=name,
            shape=(self.units,),
            dtype=self._output_dtype,
            initializer=lambda _, dtype: ops.convert_to_tensor(value, dtype),
            trainable=False,
            # In half precision a unit of y would lose its digits.
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        params = self.params_of(self.dense(ops.cast(inputs, self._output_dtype)))
        return attach_family(params, self.family)

    def params_of(self, features: Tensor) -> Tensor:
        """Params in the unit of y, from the output of the dense map."""
        params = self._to_params(features)
        if self.family.target_unit == "affine":
            params = self.family.affine(params, self.target_loc, self.target_scale)
        if self.family.target_unit == "scale":
            return self.family.rescale(params, self.target_scale)
        return params

    def adapt(self, y: Array | Tensor | Iterable) -> None:
        """Sets the unit of the target, as `keras.layers.Normalization` does.

        The head then computes in standardised units, `(y - mean) / std`, while
        its output stays in the unit of y. So the initial loc and scale fit the
        data, whatever its unit. For a family of positive targets (log-normal,
        gamma) the standardised unit is `y / mean`. Call it before `fit`, on
        training targets.

        Args:
            y: Array or tensor of targets, shape `(..., units)`, or `(...)`
                where `units` is 1, or intervals `(..., 2 * units)`, whose middles
                count where both ends are finite; or an iterable of such batches, for
                example a `tf.data.Dataset` of targets.

        Raises:
            ValueError: `y` is empty, not finite, of another width, or outside
                the support of the family; or the parameters of the family
                have no unit (rates, counts): leave `adapt` out then.
        """
        if self.family.target_unit is None:
            raise ValueError(
                f"`adapt` needs a family with a location or a scale, and the "
                f"parameters of {self.family.name!r} have no unit. Leave `adapt` out: "
                "the head emits them as they are. Received: "
                f"family={self.family!r}"
            )
        batches = [y] if hasattr(y, "shape") or isinstance(y, (list, tuple)) else y
        count, mean, squares = np.zeros((3, self.units))
        for batch in batches:
            rows = self.family.target_numbers(batch, self.units)
            known = np.isfinite(rows)
            size = known.sum(axis=0)
            total = np.maximum(count + size, 1)
            batch_mean = rows.sum(axis=0, where=known) / np.maximum(size, 1)
            centred = np.square(rows - batch_mean).sum(axis=0, where=known)
            # Chan et al.: merging keeps the squares centred.
            shift = batch_mean - mean
            squares += centred + shift**2 * count * size / total
            mean += shift * size / total
            count = count + size
        if not count.all():
            raise ValueError(
                "`y` must hold at least one target for each output, and of intervals "
                f"one with finite ends. Received: {count.tolist()} of them"
            )
        deviation = np.sqrt(squares / count)
        if self.family.target_unit == "scale":
            deviation = mean
        # A constant target has no scale of its own.
        deviation = np.where(deviation > 0, deviation, 1.0)
        self._target = (mean, deviation)
        if self.built:
            if self.family.target_unit == "affine":
                self.target_loc.assign(mean)
            self.target_scale.assign(deviation)

    def _features_size(self) -> int:
        raise NotImplementedError

    def _params_size(self) -> int:
        raise NotImplementedError

    def _to_params(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self._params_size())

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        params = KerasTensor(shape, dtype=self._output_dtype)
        return attach_family(params, self.family)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
        }
