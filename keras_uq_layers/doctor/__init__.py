"""What is wrong with a model, found on one batch."""

from keras_uq_layers import _namespace
from keras_uq_layers.doctor.checkup import diagnose
from keras_uq_layers.doctor.findings import Diagnosis
from keras_uq_layers.doctor.findings import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]

_namespace.define(__name__)
