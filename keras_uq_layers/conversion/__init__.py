"""Conversions of whole models: a Keras model in, another one out."""

from keras_uq_layers.conversion.to_deterministic import to_deterministic

__all__ = ["to_deterministic"]
