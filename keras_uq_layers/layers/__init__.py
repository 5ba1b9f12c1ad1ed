"""The layers: thin stateful shells over numerics, families and posteriors."""

from keras_uq_layers.layers.bump_layer import BumpLayer
from keras_uq_layers.layers.constant_variance_head import ConstantVarianceHead
from keras_uq_layers.layers.conv1d_variational import Conv1DVariational
from keras_uq_layers.layers.conv2d_variational import Conv2DVariational
from keras_uq_layers.layers.conv3d_variational import Conv3DVariational
from keras_uq_layers.layers.dense_variational import DenseVariational
from keras_uq_layers.layers.distribution_head import DistributionHead
from keras_uq_layers.layers.normal_likelihood import NormalLikelihood
from keras_uq_layers.layers.normal_sampling import NormalSampling
from keras_uq_layers.layers.variational import Variational

__all__ = [
    "BumpLayer",
    "ConstantVarianceHead",
    "Conv1DVariational",
    "Conv2DVariational",
    "Conv3DVariational",
    "DenseVariational",
    "DistributionHead",
    "NormalLikelihood",
    "NormalSampling",
    "Variational",
]
