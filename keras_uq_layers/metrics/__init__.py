"""Metrics: streaming, with weights and masks, thin users of a family.

Scores of censored times are functions of all rows at once.
"""

from keras_uq_layers import _namespace
from keras_uq_layers.metrics._base import FamilyMetric
from keras_uq_layers.metrics._base import MeanMetric
from keras_uq_layers.metrics.classification import Accuracy
from keras_uq_layers.metrics.classification import BrierScore
from keras_uq_layers.metrics.classification import ExpectedCalibrationError
from keras_uq_layers.metrics.intervals import IntervalCoverage
from keras_uq_layers.metrics.intervals import IntervalScore
from keras_uq_layers.metrics.intervals import MeanIntervalWidth
from keras_uq_layers.metrics.intervals import RegressionCalibrationError
from keras_uq_layers.metrics.scores import CRPS
from keras_uq_layers.metrics.scores import MeanAbsoluteError
from keras_uq_layers.metrics.scores import NegativeLogLikelihood
from keras_uq_layers.metrics.scores import Pinball
from keras_uq_layers.metrics.scores import PredictiveEntropy
from keras_uq_layers.metrics.scores import RootMeanSquaredError
from keras_uq_layers.metrics.selective import AUGRC
from keras_uq_layers.metrics.selective import AURC
from keras_uq_layers.metrics.survival import censored_brier_score
from keras_uq_layers.metrics.survival import concordance_index

__all__ = [
    "AUGRC",
    "AURC",
    "Accuracy",
    "BrierScore",
    "CRPS",
    "ExpectedCalibrationError",
    "FamilyMetric",
    "IntervalCoverage",
    "IntervalScore",
    "MeanAbsoluteError",
    "MeanIntervalWidth",
    "MeanMetric",
    "NegativeLogLikelihood",
    "Pinball",
    "PredictiveEntropy",
    "RegressionCalibrationError",
    "RootMeanSquaredError",
    "censored_brier_score",
    "concordance_index",
]

_namespace.define(__name__)
