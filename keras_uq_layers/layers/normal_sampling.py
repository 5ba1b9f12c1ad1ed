from typing import Any

import keras
from keras import KerasTensor
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Normal
from keras_uq_layers.layers._kl import add_kl_weight
from keras_uq_layers.layers._seeding import SavedSeeds
from keras_uq_layers.layers._seeding import SeedGenerator
from keras_uq_layers.numerics import at_least_float32
from keras_uq_layers.numerics import masked_mean
from keras_uq_layers.numerics import normal_kl
from keras_uq_layers.numerics import position_mask
from keras_uq_layers.numerics import where_valid
from keras_uq_layers.numerics.dtypes import as_loss
from keras_uq_layers.registration import register


@register("NormalSampling")
class NormalSampling(SavedSeeds):
    """Draws a latent code from the normal that its input describes.

    ```
    z = loc + scale * eps,  eps ~ N(0, I)
    loss += kl_weight * mean over positions of
            sum over D of KL(N(loc, scale) || N(0, 1))
    ```

    This is the latent layer of a variational autoencoder, to be placed after
    `DistributionHead(D, parameterization="scale")`. Its input is `[loc | scale]`,
    with a standard deviation, not a log-variance. Gradients flow through the draw.

    The layer adds the KL per example, in nats, to the loss. Beside a negative
    log likelihood per example its weight is 1: their sum is the negative
    evidence lower bound (ELBO). Where one latent code serves T scored
    positions, the weight is `1 / T`. Each call adds its own term.

    Args:
        kl_weight: Weight of the KL, a non-negative float. It is held as a
            variable, so that a callback may change it during training.
        sample_at_inference: Whether to draw with `training=False`, too. With
            True `evaluate` estimates the same ELBO; with False the output is
            `loc`.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Params of a normal, `[loc | scale]`.
        training: Boolean; matters where `sample_at_inference` is False.
        mask: Boolean tensor of the leading axes, or None. Positions that are
            masked out add nothing to the KL; their output is 0.

    Input shape:
        `(batch, ..., 2 * D)`.

    Output shape:
        `(batch, ..., D)`; float32 or wider, also under a mixed policy.

    Raises:
        ValueError: The last axis is not even, or `kl_weight` is negative.

    Example:

    >>> layer = uq.NormalSampling(seed=0)
    >>> z = layer(np.array([[0.0, 0.0, 1.0, 1.0]]))  # the prior itself
    >>> z.shape[-1], float(layer.losses[0])
    (2, 0.0)

    References:
        Kingma & Welling, 2014, "Auto-Encoding Variational Bayes", ICLR,
        arXiv:1312.6114. Higgins et al., 2017, "beta-VAE", ICLR, for a weight
        other than 1.
    """

    def __init__(
        self,
        kl_weight: float = 1.0,
        sample_at_inference: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        # A draw in half precision would round small scales away.
        super().__init__(autocast=False, **kwargs)
        add_kl_weight(self, arguments.non_negative_float("kl_weight", kl_weight))
        self.sample_at_inference = arguments.boolean(
            "sample_at_inference", sample_at_inference
        )
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self._normal = Normal()
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self._normal.units(input_shape[-1])

    def call(
        self, inputs: Tensor, training: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        valid = position_mask(mask, tuple(inputs.shape[:-1]))
        params = where_valid(valid, ops.cast(inputs, self._output_dtype))
        loc, scale = self._normal.split(params)
        kl = masked_mean(ops.sum(normal_kl(loc, scale), axis=-1), valid)
        self.add_loss(as_loss(ops.cast(self.kl_weight, kl.dtype) * kl))
        if training or self.sample_at_inference:
            seed = self.seed_generator.per_example()
            output = self._normal.sample(params, seed=seed)
        else:
            output = loc
        return where_valid(valid, output, 0.0)

    @property
    def _output_dtype(self) -> str:
        return at_least_float32(self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self._normal.units(input_shape[-1]))

    def compute_output_spec(
        self, inputs: KerasTensor, training: bool = False, mask: Any = None
    ) -> KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return KerasTensor(shape, dtype=self._output_dtype)

    def deterministic(self) -> tuple[keras.layers.Layer, list[Array] | None]:
        """This layer with its mean as output, for `to_deterministic`.

        In training it still draws, just as Keras's own dropout still drops.

        Returns:
            The layer, not built, and the weights to set once it is, or None.
        """
        config = {**self.get_config(), "sample_at_inference": False}
        weights = self.get_weights() if self.built else None
        return type(self).from_config(config), weights

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "kl_weight": self.initial_kl_weight,
            "sample_at_inference": self.sample_at_inference,
            "seed": self.seed,
        }
