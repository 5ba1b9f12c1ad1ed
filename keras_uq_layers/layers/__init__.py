"""The layers: thin stateful shells over numerics, families and posteriors."""

from keras_uq_layers.layers.bump_layer import BumpLayer
from keras_uq_layers.layers.constant_variance_head import ConstantVarianceHead
from keras_uq_layers.layers.dense_variational import DenseVariational
from keras_uq_layers.layers.distribution_head import DistributionHead
from keras_uq_layers.layers.normal_likelihood import NormalLikelihood
from keras_uq_layers.layers.normal_sampling import NormalSampling

__all__ = [
    "BumpLayer",
    "ConstantVarianceHead",
    "DenseVariational",
    "DistributionHead",
    "NormalLikelihood",
    "NormalSampling",
]
