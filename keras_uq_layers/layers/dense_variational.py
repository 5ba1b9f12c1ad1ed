from typing import Any

import keras
from keras.layers import InputSpec

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._variational_layer import FLIPOUT
from keras_uq_layers.layers._variational_layer import LOCAL_REPARAMETERIZATION
from keras_uq_layers.layers._variational_layer import REPARAMETERIZATION
from keras_uq_layers.layers._variational_layer import VariationalLayer
from keras_uq_layers.numerics.matmul import matmul
from keras_uq_layers.registration import register


@register("DenseVariational")
class DenseVariational(VariationalLayer):
    """A `Dense` layer with uncertain weights: each has a mean and a scale.

    The weights are drawn anew at each call, so that repeated predictions
    differ where the data leave the weights open.

    ```
    y = activation(x @ kernel + bias),   (kernel, bias) ~ posterior
    loss += kl_weight * KL(posterior || prior)
    ```

    Together with a negative log likelihood this is variational inference: the
    loss is the negative evidence lower bound (ELBO) per position. The KL
    enters once per forward pass, however often the layer is called in it. A
    layer with `trainable=False` adds no KL, as with any regularizer of Keras.

    In training the estimator decides how the noise of the weights reaches the
    output. With independent weights there are three:

    - `"local_reparameterization"`, the default: draws the output instead of
      the weights, with the mean and variance that the weights give it. It has
      the lowest variance and costs two matrix products. It is exact for
      inputs `(batch, F)`. With more axes the positions of an example share
      weights, but their outputs are drawn independently: an approximation.
      Choose flipout where a later layer mixes positions.
    - `"flipout"`: one draw of the weights, decorrelated between the examples
      by random signs. It is unbiased and costs two matrix products. It reduces
      the gradient noise of the means as much as the default does, and that of
      the scales little.
    - `"reparameterization"`: one draw for the whole batch. It is unbiased,
      costs one matrix product and has the highest variance. Use it for small
      batches, or where speed counts. It is the only one for correlated
      weights.

    With `training=False` one set of weights is drawn per call, so that a
    prediction is a function of x. Repeat the call to see how much such
    functions differ.

    Args:
        units: Number of outputs, a positive integer.
        activation: Activation function.
        kl_weight: Weight of the KL, required: 1 / (number of scored training
            positions), `N` for targets `(N, D)`, `N * T` for `(N, T, D)`. It
            is held as a variable, so that a callback may change it.
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
        log_marginal_likelihood: What `uq.to_laplace` found, or None.
        **kwargs: As for `keras.layers.Layer`.

    Attributes:
        kernel: The posterior means of the kernel, a variable.
        bias: The posterior means of the bias, a variable, or None.
        posterior: The posterior; `posterior.scale["kernel"]` is an array of
            standard deviations.
        log_marginal_likelihood: Of the Laplace approximation that the layer was
            made by, in nats; None for another layer.

    Call arguments:
        inputs: Tensor of features.
        training: Boolean, whether the estimator is used.

    Input shape:
        `(batch, ..., F)`.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: `kl_weight` is missing or negative, `units` is not a
            positive integer, or the estimator does not exist for the
            posterior; the message lists those that do.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         uq.DenseVariational(16, "relu", kl_weight=1 / 5000),
    ...         uq.DenseVariational(16, "relu", kl_weight=1 / 5000),
    ...         uq.DistributionHead(1),
    ...     ]
    ... )
    >>> model.predict(np.ones((4, 3)), verbose=0).shape
    (4, 2)

    References:
        Blundell et al., 2015, "Weight Uncertainty in Neural Networks", ICML,
        arXiv:1505.05424. Kingma, Salimans & Welling, 2015, "Variational
        Dropout and the Local Reparameterization Trick", NeurIPS,
        arXiv:1506.02557. Wen et al., 2018, "Flipout", ICLR, arXiv:1803.04386.
    """

    estimators = (LOCAL_REPARAMETERIZATION, FLIPOUT, REPARAMETERIZATION)

    def __init__(
        self,
        units: int,
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
        log_marginal_likelihood: float | None = None,
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
        self.units = arguments.positive_int("units", units)
        self.log_marginal_likelihood = log_marginal_likelihood
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: Shape) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                "The last axis of the input of `DenseVariational` must have a "
                f"known size. Received: input_shape={tuple(input_shape)}"
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})
        self._build_weights((features, self.units), self.units, (features, self.units))

    def _linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return matmul(inputs, kernel)

    def _plain_layer(self) -> keras.layers.Layer:
        return keras.layers.Dense(
            self.units,
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name=self.name,
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "units": self.units,
            "log_marginal_likelihood": self.log_marginal_likelihood,
        }
