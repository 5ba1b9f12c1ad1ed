"""Monte Carlo dropout of whole feature maps, as Keras's `SpatialDropout`."""

from typing import Any

from keras import backend
from keras import ops
from keras.layers import InputSpec

from keras_uq_layers import arguments
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._monte_carlo import MonteCarloDropout
from keras_uq_layers.registration import register


class SpatialMonteCarloDropout(MonteCarloDropout):
    """Abstract: one draw per example and channel. A subclass gives the rank."""

    rank: int

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(rate, seed=seed, **kwargs)
        if data_format is None:
            data_format = backend.image_data_format()
        self.data_format = arguments.one_of(
            "data_format", data_format, ("channels_last", "channels_first")
        )
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _noise_shape(self, inputs: Tensor) -> tuple:
        shape = ops.shape(inputs)
        ones = (1,) * self.rank
        if self.data_format == "channels_first":
            return (*shape[:2], *ones)
        return (shape[0], *ones, shape[-1])

    def get_config(self) -> Config:
        return {**super().get_config(), "data_format": self.data_format}


@register("SpatialMCDropout1D")
class SpatialMCDropout1D(SpatialMonteCarloDropout):
    """Dropout of whole 1D feature maps that also drops at inference.

    ```
    output = inputs * keep / (1 - rate),  one keep per example and channel
    ```

    It is `keras.layers.SpatialDropout1D` that always acts as in training.
    Where neighbours are correlated, as after convolutions, dropping single
    entries hardly removes information. Dropping whole maps does.

    Args:
        rate: Share of the maps that is dropped, in `[0, 1)`.
        data_format: `"channels_last"` or `"channels_first"`; None is the
            default of Keras.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of rank 3.
        training: Has no effect.

    Input shape:
        `(batch, steps, channels)`, or channels first.

    Output shape:
        The same.

    Raises:
        ValueError: `rate` is outside `[0, 1)`, or an unknown
            `data_format`.

    Example:

    >>> layer = uq.SpatialMCDropout1D(0.5, seed=0)
    >>> y = ops.convert_to_numpy(layer(np.ones((2, 3, 4))))
    >>> bool((y == y[:, :1]).all())
    True

    References:
        Tompson et al., 2015, "Efficient Object Localization Using
        Convolutional Networks", CVPR, arXiv:1411.4280. Gal & Ghahramani,
        2016, "Dropout as a Bayesian Approximation", ICML, arXiv:1506.02142.
    """

    rank = 1


@register("SpatialMCDropout2D")
class SpatialMCDropout2D(SpatialMonteCarloDropout):
    """Dropout of whole 2D feature maps that also drops at inference.

    ```
    output = inputs * keep / (1 - rate),  one keep per example and channel
    ```

    It is `keras.layers.SpatialDropout2D` that always acts as in training.
    See `uq.SpatialMCDropout1D` for the reason and the arguments.

    Call arguments:
        inputs: Tensor of rank 4.
        training: Has no effect.

    Input shape:
        `(batch, H, W, channels)`, or channels first.

    Output shape:
        The same.

    Example:

    >>> layer = uq.SpatialMCDropout2D(0.5, seed=0)
    >>> y = ops.convert_to_numpy(layer(np.ones((2, 3, 3, 4))))
    >>> bool((y == y[:, :1, :1]).all())
    True
    """

    rank = 2


@register("SpatialMCDropout3D")
class SpatialMCDropout3D(SpatialMonteCarloDropout):
    """Dropout of whole 3D feature maps that also drops at inference.

    ```
    output = inputs * keep / (1 - rate),  one keep per example and channel
    ```

    It is `keras.layers.SpatialDropout3D` that always acts as in training.
    See `uq.SpatialMCDropout1D` for the reason and the arguments.

    Call arguments:
        inputs: Tensor of rank 5.
        training: Has no effect.

    Input shape:
        `(batch, D, H, W, channels)`, or channels first.

    Output shape:
        The same.

    Example:

    >>> layer = uq.SpatialMCDropout3D(0.5, seed=0)
    >>> y = ops.convert_to_numpy(layer(np.ones((2, 3, 3, 3, 4))))
    >>> bool((y == y[:, :1, :1, :1]).all())
    True
    """

    rank = 3
