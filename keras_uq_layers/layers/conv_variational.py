"""Convolutions of rank 1, 2 and 3 with random weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.layers import InputSpec

from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._variational_layer import FLIPOUT
from keras_uq_layers.layers._variational_layer import LOCAL_REPARAMETERIZATION
from keras_uq_layers.layers._variational_layer import REPARAMETERIZATION
from keras_uq_layers.layers._variational_layer import VariationalLayer
from keras_uq_layers.registration import register


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
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: Identifier = None,
        *,
        kl_weight: float | None = None,
        estimator: str | None = None,
        posterior: Identifier = "mean_field",
        prior: Identifier = "normal",
        bias_prior: Identifier = None,
        use_bias: bool = True,
        deterministic_bias: bool = False,
        kernel_initializer: Identifier = "glorot_uniform",
        bias_initializer: Identifier = "zeros",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            activation=activation,
            kl_weight=kl_weight,
            estimator=estimator,
            posterior=posterior,
            prior=prior,
            bias_prior=bias_prior,
            use_bias=use_bias,
            deterministic_bias=deterministic_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            seed=seed,
            **kwargs,
        )
        self.filters = filters
        self.kernel_size: Any = kernel_size
        self.strides: Any = strides
        self.padding = padding
        self.data_format = data_format
        self.dilation_rate: Any = dilation_rate
        self.groups = groups
        # The layer of Keras checks the arguments and makes tuples of numbers.
        checked = self._plain_layer()
        self.rank = checked.rank
        for name in ("kernel_size", "strides", "padding", "dilation_rate"):
            setattr(self, name, getattr(checked, name))
        self.data_format = checked.data_format
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: Shape) -> None:
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
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def _linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
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

    def _plain_layer(self) -> keras.layers.Layer:
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

    def get_config(self) -> Config:
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


@register("Conv1DVariational")
class Conv1DVariational(ConvVariational):
    """A `Conv1D` layer whose kernel and bias are random.

    ```
    y = activation(conv(x, kernel) + bias),   (kernel, bias) ~ posterior
    loss += kl_weight * KL(posterior || prior)
    ```

    The convolution is that of `keras.layers.Conv1D`. Posterior, prior and KL
    are explained at `uq.DenseVariational`. In training the estimators are

    - `"flipout"`, the default: one draw of the weights, decorrelated between
      the examples by random signs. It is unbiased and costs two convolutions.
    - `"local_reparameterization"`: draws the outputs, with the mean and
      variance that the weights give them. This is an approximation: outputs
      at different positions share weights, but their noise is drawn
      independently. It has the lowest variance and costs two convolutions.
    - `"reparameterization"`: one draw for the whole batch. It is unbiased,
      costs one convolution and has the highest variance. It is the only one
      for correlated weights.

    With `training=False` one set of weights is drawn per call.

    Args:
        filters: Number of output channels.
        kernel_size: Length of the kernel, an integer.
        strides: Step length.
        padding: `"valid"`, `"same"` or `"causal"`.
        data_format: `"channels_last"` or `"channels_first"`; None is Keras's
            own setting.
        dilation_rate: Spacing of the kernel's entries.
        groups: Number of groups that the channels are divided into.
        activation: Activation function.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions). It is held as a variable, so that a callback may
            change it.
        estimator: See above; `None` is the first of the list that exists for
            `posterior`.
        posterior: `"mean_field"`, `"low_rank"`, `"kronecker"`,
            `"full_covariance"` or an object of `uq.posteriors`.
        prior: `"normal"`, which is N(0, 1), `"scale_mixture"` or an object of
            `uq.priors`.
        bias_prior: Prior of the bias. With `None` the bias has the prior of
            the kernel, and shares its scale where that is learned.
        use_bias: Whether there is a bias.
        deterministic_bias: Whether the bias is an ordinary weight, without
            randomness.
        kernel_initializer: Initializer of the posterior means of the kernel.
        bias_initializer: Initializer of the posterior means of the bias.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of signals.
        training: Boolean, whether the estimator is used.

    Input shape:
        `(batch, T, channels)`, or channels first.

    Output shape:
        `(batch, T', filters)`, or channels first.

    Raises:
        ValueError: `kl_weight` is missing or negative, an argument that
            `keras.layers.Conv1D` refuses, or an estimator that does not
            exist for the posterior; the message lists those that do.

    Example:

    >>> layer = uq.Conv1DVariational(4, 3, padding="same", kl_weight=1 / 5000)
    >>> layer(np.ones((2, 5, 3))).shape[-1]
    4

    References:
        Wen et al., 2018, "Flipout", ICLR, arXiv:1803.04386. Kingma, Salimans &
        Welling, 2015, "Variational Dropout and the Local Reparameterization
        Trick", NeurIPS, arXiv:1506.02557.
    """

    plain = keras.layers.Conv1D


@register("Conv2DVariational")
class Conv2DVariational(ConvVariational):
    """A `Conv2D` layer whose kernel and bias are random.

    The convolution is that of `keras.layers.Conv2D`, the random weights
    are those of `uq.Conv1DVariational`.

    See `uq.Conv1DVariational` for the arguments. Here `padding` is `"valid"`
    or `"same"`; `kernel_size`, `strides` and `dilation_rate` are integers or
    tuples of 2.

    Call arguments:
        inputs: Tensor of images.
        training: Boolean, whether the estimator is used.

    Input shape:
        `(batch, H, W, channels)`, or channels first.

    Output shape:
        `(batch, H', W', filters)`, or channels first.

    Raises:
        ValueError: `kl_weight` is missing or negative, an argument that
            `keras.layers.Conv2D` refuses, or an estimator that does not
            exist for the posterior; the message lists those that do.

    Example:

    >>> layer = uq.Conv2DVariational(4, 3, padding="same", kl_weight=1 / 5000)
    >>> layer(np.ones((2, 5, 5, 3))).shape[-1]
    4
    """

    plain = keras.layers.Conv2D


@register("Conv3DVariational")
class Conv3DVariational(ConvVariational):
    """A `Conv3D` layer whose kernel and bias are random.

    The convolution is that of `keras.layers.Conv3D`, the random weights
    are those of `uq.Conv1DVariational`.

    See `uq.Conv1DVariational` for the arguments. Here `padding` is `"valid"`
    or `"same"`; `kernel_size`, `strides` and `dilation_rate` are integers or
    tuples of 3.

    Call arguments:
        inputs: Tensor of volumes.
        training: Boolean, whether the estimator is used.

    Input shape:
        `(batch, D, H, W, channels)`, or channels first.

    Output shape:
        `(batch, D', H', W', filters)`, or channels first.

    Raises:
        ValueError: `kl_weight` is missing or negative, an argument that
            `keras.layers.Conv3D` refuses, or an estimator that does not
            exist for the posterior; the message lists those that do.

    Example:

    >>> layer = uq.Conv3DVariational(4, 3, padding="same", kl_weight=1 / 5000)
    >>> layer(np.ones((2, 5, 5, 5, 3))).shape[-1]
    4
    """

    plain = keras.layers.Conv3D
