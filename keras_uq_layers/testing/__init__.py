"""Harnesses for layers and families of your own; no test framework needed."""

from keras_uq_layers import _namespace
from keras_uq_layers.testing.families import check_family
from keras_uq_layers.testing.layers import check_layer
from keras_uq_layers.testing.layers import generic_input

__all__ = ["check_family", "check_layer", "generic_input"]

_namespace.define(__name__)
