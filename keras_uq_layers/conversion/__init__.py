"""Conversions of whole models: a Keras model in, another one out."""

from keras_uq_layers.conversion.to_bayesian import to_bayesian
from keras_uq_layers.conversion.to_deterministic import to_deterministic
from keras_uq_layers.conversion.to_laplace import to_laplace
from keras_uq_layers.conversion.to_mc_dropout import to_mc_dropout

__all__ = ["to_bayesian", "to_deterministic", "to_laplace", "to_mc_dropout"]
