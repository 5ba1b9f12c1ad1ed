"""What is wrong with a model, found on one batch."""

from keras_uq_layers.diagnosis.diagnose import diagnose
from keras_uq_layers.diagnosis.findings import Diagnosis
from keras_uq_layers.diagnosis.findings import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
