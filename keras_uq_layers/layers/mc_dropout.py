from typing import Any

import keras
from keras import ops

from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._monte_carlo import MonteCarloDropout
from keras_uq_layers.registration import register


@register("MCDropout")
class MCDropout(MonteCarloDropout):
    """Dropout that also drops at inference (Monte Carlo dropout).

    ```
    output = inputs * keep / (1 - rate),  keep ~ Bernoulli(1 - rate)
    ```

    It is `keras.layers.Dropout` that always acts as in training. Each call of
    the model is one draw from an approximate posterior, and `uq.predict` makes
    many calls. The noise is per example: two rows see different masks.

    Args:
        rate: Share of the entries that is dropped, in `[0, 1)`.
        noise_shape: Shape of the mask, broadcast against the input, as for
            `keras.layers.Dropout`: `(None, 1, None)` drops the same features
            at every time step.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of any rank.
        training: Has no effect.

    Input shape:
        Arbitrary.

    Output shape:
        The same.

    Raises:
        ValueError: `rate` is outside `[0, 1)`, or `noise_shape` is not a
            sequence of positive integers and Nones.

    Example:

    >>> layer = uq.MCDropout(0.5, seed=0)
    >>> sorted({float(v) for v in layer(np.ones((1, 100)))[0]})
    [0.0, 2.0]

    References:
        Gal & Ghahramani, 2016, "Dropout as a Bayesian Approximation:
        Representing Model Uncertainty in Deep Learning", ICML,
        arXiv:1506.02142.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: tuple[int | None, ...] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(rate, seed=seed, **kwargs)
        # Keras's own layer checks the noise shape.
        self.noise_shape = keras.layers.Dropout(rate, noise_shape).noise_shape

    def _noise_shape(self, inputs: Tensor) -> tuple:
        # Never None: without a shape, Keras on PyTorch ignores a generator that
        # was given no seed, and neither `predict` nor a saved file could
        # repeat the draw.
        return ops.shape(inputs) if self.noise_shape is None else self.noise_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "noise_shape": self.noise_shape}
