"""Keras 3 layers for uncertainty quantification."""

from typing import TYPE_CHECKING

from keras_uq_layers import _hush  # noqa: F401  # before TensorFlow
from keras_uq_layers import _namespace
from keras_uq_layers import calibration
from keras_uq_layers import callbacks
from keras_uq_layers import constraints
from keras_uq_layers import families
from keras_uq_layers import losses
from keras_uq_layers import metrics
from keras_uq_layers import novelty
from keras_uq_layers import numerics
from keras_uq_layers import posteriors
from keras_uq_layers import priors
from keras_uq_layers import targets
from keras_uq_layers._version import __version__
from keras_uq_layers.calibration import BetaCalibration
from keras_uq_layers.calibration import TemperatureScaling
from keras_uq_layers.calibration import VectorScaling
from keras_uq_layers.conversion import to_bayesian
from keras_uq_layers.conversion import to_deterministic
from keras_uq_layers.conversion import to_laplace
from keras_uq_layers.conversion import to_mc_dropout
from keras_uq_layers.ensemble import Ensemble
from keras_uq_layers.ensemble import bootstrap_weights
from keras_uq_layers.layers import *  # noqa: F403
from keras_uq_layers.layers import __all__ as _layers
from keras_uq_layers.prediction import ClassMoments
from keras_uq_layers.prediction import ClassPrediction
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.prediction import predict
from keras_uq_layers.registration import custom_objects
from keras_uq_layers.serving import serving_model

if TYPE_CHECKING:
    from keras_uq_layers import doctor
    from keras_uq_layers import plotting
    from keras_uq_layers import testing
    from keras_uq_layers.doctor import Diagnosis
    from keras_uq_layers.doctor import diagnose
    from keras_uq_layers.tfp import to_tfp

__all__ = [
    "BetaCalibration",
    "TemperatureScaling",
    "VectorScaling",
    "__version__",
    "calibration",
    "callbacks",
    "ClassMoments",
    "ClassPrediction",
    "Diagnosis",
    "Ensemble",
    "Moments",
    "Prediction",
    "bootstrap_weights",
    "constraints",
    "custom_objects",
    "diagnose",
    "doctor",
    "families",
    "losses",
    "metrics",
    "novelty",
    "numerics",
    "plotting",
    "posteriors",
    "predict",
    "priors",
    "serving_model",
    "targets",
    "testing",
    "to_bayesian",
    "to_deterministic",
    "to_laplace",
    "to_mc_dropout",
    "to_tfp",
    *_layers,
]

# Loaded on first use: few programs need them, and TensorFlow Probability is
# slow to import.
_namespace.define(
    __name__,
    lazy={
        "Diagnosis": "keras_uq_layers.doctor",
        "diagnose": "keras_uq_layers.doctor",
        "doctor": "keras_uq_layers.doctor",
        "plotting": "keras_uq_layers.plotting",
        "testing": "keras_uq_layers.testing",
        "to_tfp": "keras_uq_layers.tfp",
    },
)
