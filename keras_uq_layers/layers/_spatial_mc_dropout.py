"""Monte Carlo dropout of whole feature maps, as Keras's `SpatialDropout`."""

from keras import backend
from keras import ops
from keras.layers import InputSpec

from keras_uq_layers import arguments
from keras_uq_layers.layers._monte_carlo import MonteCarloDropout


class SpatialMonteCarloDropout(MonteCarloDropout):
    """Abstract: one draw per example and channel. A subclass gives the rank."""

    rank = 1

    def __init__(self, rate, data_format=None, seed=None, **kwargs):
        super().__init__(rate, seed=seed, **kwargs)
        if data_format is None:
            data_format = backend.image_data_format()
        self.data_format = arguments.one_of(
            "data_format", data_format, ("channels_last", "channels_first")
        )
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _noise_shape(self, inputs):
        shape = ops.shape(inputs)
        ones = (1,) * self.rank
        if self.data_format == "channels_first":
            return (*shape[:2], *ones)
        return (shape[0], *ones, shape[-1])

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
