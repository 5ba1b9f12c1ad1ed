"""What the variational convolutions of all ranks share."""

import math

import keras
from keras import ops
from keras.layers import InputSpec

from keras_uq_layers.layers._variational import FLIPOUT
from keras_uq_layers.layers._variational import LOCAL_REPARAMETERIZATION
from keras_uq_layers.layers._variational import REPARAMETERIZATION
from keras_uq_layers.layers._variational import VariationalLayer


class ConvVariational(VariationalLayer):
    """Abstract: a convolution with random kernel and bias.

    A subclass names the Keras layer of its rank as `plain`, which checks the
    arguments and knows the output shape.
    """

    # Flipout first: exact for a kernel that is shared between positions.
    estimators = (FLIPOUT, LOCAL_REPARAMETERIZATION, REPARAMETERIZATION)
    plain: type[keras.layers.Layer]

    def __init__(
        self,
        *,
        filters,
        kernel_size,
        strides,
        padding,
        data_format,
        dilation_rate,
        groups,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.data_format = data_format
        self.dilation_rate = dilation_rate
        self.groups = groups
        checked = self._plain_layer()
        self.rank = checked.rank
        for name in ("kernel_size", "strides", "padding", "dilation_rate"):
            setattr(self, name, getattr(checked, name))
        self.data_format = checked.data_format
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape):
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(
                f"The channel axis of the input of `{type(self).__name__}` must "
                f"have a known size. Received: input_shape={tuple(input_shape)}"
            )
        if channels % self.groups:
            raise ValueError(
                "`groups` must divide the number of input channels, "
                f"{channels}. Received: groups={self.groups}"
            )
        self.input_spec = InputSpec(
            ndim=self.rank + 2, axes={self._channel_axis: channels}
        )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        field = math.prod(self.kernel_size)
        self._build_weights(
            shape, self.filters, (field * shape[-2], field * self.filters)
        )

    @property
    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def _linear(self, inputs, kernel):
        if inputs.shape[0] == 0:
            # TensorFlow's eager convolution returns an empty batch unchanged.
            return ops.zeros(self.compute_output_shape(inputs.shape), kernel.dtype)
        padding = self.padding
        if padding == "causal":
            widths = [[0, 0], [0, 0], [0, 0]]
            steps = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            widths[1 if self._channel_axis == -1 else 2] = [steps, 0]
            inputs, padding = ops.pad(inputs, widths), "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def _plain_layer(self):
        return self.plain(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name=self.name,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }
