"""Distributions over weights: posteriors that are learned, and priors."""

from keras_uq_layers import _namespace
from keras_uq_layers.variational.posteriors import FullCovarianceNormal
from keras_uq_layers.variational.posteriors import LowRankNormal
from keras_uq_layers.variational.posteriors import MeanFieldNormal
from keras_uq_layers.variational.posteriors import Posterior
from keras_uq_layers.variational.posteriors import get_posterior
from keras_uq_layers.variational.priors import NormalPrior
from keras_uq_layers.variational.priors import Prior
from keras_uq_layers.variational.priors import ScaleMixturePrior
from keras_uq_layers.variational.priors import get_prior

__all__ = [
    "FullCovarianceNormal",
    "LowRankNormal",
    "MeanFieldNormal",
    "NormalPrior",
    "Posterior",
    "Prior",
    "ScaleMixturePrior",
    "get_posterior",
    "get_prior",
]

_namespace.define(__name__)
