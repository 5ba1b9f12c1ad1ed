import keras

from keras_uq_layers.layers._conv_variational import ConvVariational
from keras_uq_layers.registration import register


@register("Conv3DVariational")
class Conv3DVariational(ConvVariational):
    """A `Conv3D` layer whose kernel and bias are random.

    ```
    y = activation(conv(x, kernel) + bias),   (kernel, bias) ~ posterior
    loss += kl_weight * KL(posterior || prior)
    ```

    The convolution is that of `keras.layers.Conv3D`, the rest as in
    `uq.DenseVariational`. In training the estimators are

    - `"flipout"`, the default: one draw of the weights, decorrelated between
      the examples by random signs. Unbiased; two convolutions.
    - `"local_reparameterization"`: draws the outputs, with the mean and
      variance that the weights give them. The usual approximation: outputs
      at different positions share weights, and it draws them independently.
      Lowest variance; two convolutions.
    - `"reparameterization"`: one draw for the whole batch. Unbiased; one
      convolution, the highest variance. The only one for correlated weights.

    With `training=False` one set of weights is drawn per call.

    Args:
        filters: Number of output channels.
        kernel_size: Integer, or tuple of 3 integers.
        strides: Integer, or tuple of 3 of step lengths.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; None is Keras's
            own setting.
        dilation_rate: Integer, or tuple of 3 of spacings.
        groups: Number of groups that the channels are divided into.
        activation: Activation function.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions). It is held as a variable, so that a callback may
            change it.
        estimator: See above; `None` is the best that exists for `posterior`.
        posterior: `"mean_field"`, `"low_rank"`, `"full_covariance"` or an
            object of `uq.variational`.
        prior: `"normal"`, which is N(0, 1), `"scale_mixture"` or an object of
            `uq.variational`.
        bias_prior: Prior of the bias; `None` is that of the kernel, its scale
            included where it is learned.
        use_bias: Whether there is a bias.
        deterministic_bias: Whether the bias is an ordinary weight.
        kernel_initializer: Initializer of the posterior means of the kernel.
        bias_initializer: Initializer of the posterior means of the bias.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

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

    References:
        Wen et al., 2018, "Flipout", ICLR, arXiv:1803.04386. Kingma, Salimans &
        Welling, 2015, "Variational Dropout and the Local Reparameterization
        Trick", NeurIPS, arXiv:1506.02557.
    """

    plain = keras.layers.Conv3D

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        *,
        kl_weight=None,
        estimator=None,
        posterior="mean_field",
        prior="normal",
        bias_prior=None,
        use_bias=True,
        deterministic_bias=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
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
