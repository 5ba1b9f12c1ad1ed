from keras_uq_layers.layers._spatial_mc_dropout import SpatialMonteCarloDropout
from keras_uq_layers.registration import register


@register("SpatialMCDropout1D")
class SpatialMCDropout1D(SpatialMonteCarloDropout):
    """Dropout of whole 1D feature maps that also drops at inference.

    ```
    output = inputs * keep / (1 - rate),  one keep per example and channel
    ```

    `keras.layers.SpatialDropout1D` with `training=True` for good. Where
    neighbours are correlated, as after convolutions, dropping single entries
    hardly removes information; dropping whole maps does.

    Args:
        rate: Share of the maps that is dropped, in `[0, 1)`.
        data_format: `"channels_last"` or `"channels_first"`; None is the
            default of Keras.
        seed: Integer seed of the draws, or None.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of rank 3.
        training: Ignored: it always drops.

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
