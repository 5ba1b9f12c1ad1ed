"""The layers: thin stateful shells over numerics, families and posteriors."""

from keras_uq_layers import _namespace
from keras_uq_layers.layers.bump_layer import BumpLayer
from keras_uq_layers.layers.concrete_dropout import ConcreteDropout
from keras_uq_layers.layers.constant_variance_head import ConstantVarianceHead
from keras_uq_layers.layers.conv_variational import Conv1DVariational
from keras_uq_layers.layers.conv_variational import Conv2DVariational
from keras_uq_layers.layers.conv_variational import Conv3DVariational
from keras_uq_layers.layers.dense_variational import DenseVariational
from keras_uq_layers.layers.distribution_head import DistributionHead
from keras_uq_layers.layers.mc_dropout import MCDropout
from keras_uq_layers.layers.normal_likelihood import NormalLikelihood
from keras_uq_layers.layers.normal_sampling import NormalSampling
from keras_uq_layers.layers.ordinal_head import OrdinalHead
from keras_uq_layers.layers.random_fourier_features import RandomFourierFeatures
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout1D
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout2D
from keras_uq_layers.layers.spatial_mc_dropout import SpatialMCDropout3D
from keras_uq_layers.layers.variational_wrapper import Variational

__all__ = [
    "BumpLayer",
    "ConcreteDropout",
    "ConstantVarianceHead",
    "Conv1DVariational",
    "Conv2DVariational",
    "Conv3DVariational",
    "DenseVariational",
    "DistributionHead",
    "MCDropout",
    "NormalLikelihood",
    "NormalSampling",
    "OrdinalHead",
    "RandomFourierFeatures",
    "Variational",
    "SpatialMCDropout1D",
    "SpatialMCDropout2D",
    "SpatialMCDropout3D",
]

_namespace.define(__name__)
