"""Keras 3 layers for uncertainty quantification."""

from typing import TYPE_CHECKING

from keras_uq_layers import _hush  # noqa: F401  # before TensorFlow
from keras_uq_layers import _namespace
from keras_uq_layers import constraints
from keras_uq_layers import families
from keras_uq_layers import numerics
from keras_uq_layers import posteriors
from keras_uq_layers import priors
from keras_uq_layers import registration
from keras_uq_layers._version import __version__
from keras_uq_layers.layers import *  # noqa: F403
from keras_uq_layers.layers import __all__ as _layers
from keras_uq_layers.registration import custom_objects

if TYPE_CHECKING:
    from keras_uq_layers import calibration
    from keras_uq_layers import callbacks
    from keras_uq_layers import doctor
    from keras_uq_layers import losses
    from keras_uq_layers import metrics
    from keras_uq_layers import novelty
    from keras_uq_layers import plotting
    from keras_uq_layers import targets
    from keras_uq_layers import testing
    from keras_uq_layers.calibration import BetaCalibration
    from keras_uq_layers.calibration import TemperatureScaling
    from keras_uq_layers.calibration import VectorScaling
    from keras_uq_layers.conversion.to_bayesian import to_bayesian
    from keras_uq_layers.conversion.to_deterministic import to_deterministic
    from keras_uq_layers.conversion.to_laplace import to_laplace
    from keras_uq_layers.conversion.to_mc_dropout import to_mc_dropout
    from keras_uq_layers.doctor import Diagnosis
    from keras_uq_layers.doctor import diagnose
    from keras_uq_layers.ensemble import Ensemble
    from keras_uq_layers.ensemble import bootstrap_weights
    from keras_uq_layers.prediction import ClassMoments
    from keras_uq_layers.prediction import ClassPrediction
    from keras_uq_layers.prediction import Moments
    from keras_uq_layers.prediction import Prediction
    from keras_uq_layers.prediction.predict import predict
    from keras_uq_layers.serving import serving_model
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

# Loaded on first use: a program that only builds and fits layers needs few of
# them.
_ROOMS = {
    "calibration": ["BetaCalibration", "TemperatureScaling", "VectorScaling"],
    "callbacks": [],
    "conversion": ["to_bayesian", "to_deterministic", "to_laplace", "to_mc_dropout"],
    "doctor": ["Diagnosis", "diagnose"],
    "ensemble": ["Ensemble", "bootstrap_weights"],
    "losses": [],
    "metrics": [],
    "novelty": [],
    "plotting": [],
    "prediction": [
        "ClassMoments", "ClassPrediction", "Moments", "Prediction", "predict",
    ],
    "serving": ["serving_model"],
    "targets": [],
    "testing": [],
    "tfp": ["to_tfp"],
}  # fmt: skip
_namespace.define(
    __name__,
    lazy={
        name: f"{__name__}.{room}"
        for room, names in _ROOMS.items()
        for name in (room, *names)
    },
)
# Their classes that a saved file may name.
_REGISTERED = {
    "calibration": [
        "BetaCalibration",
        "TemperatureScaling",
        "VectorScaling",
        "calibration.AdaptiveConformal",
        "calibration.AdaptivePredictionSets",
        "calibration.ConformalQuantile",
        "calibration.IsotonicCalibration",
        "calibration.LeastAmbiguousSets",
        "calibration.ScaleCalibration",
        "calibration.SelectivePrediction",
        "calibration.SplitConformal",
    ],
    "ensemble": ["Ensemble"],
    "layers._always_drops": [
        "MCAdditiveAttention",
        "MCAlphaDropout",
        "MCAttention",
        "MCConvLSTM1D",
        "MCConvLSTM2D",
        "MCConvLSTM3D",
        "MCGRU",
        "MCGRUCell",
        "MCGaussianDropout",
        "MCGroupedQueryAttention",
        "MCLSTM",
        "MCLSTMCell",
        "MCMultiHeadAttention",
        "MCSimpleRNN",
        "MCSimpleRNNCell",
    ],
    "losses": ["losses.CRPS", "losses.NegativeLogLikelihood", "losses.Pinball"],
    "metrics": [
        "metrics.AUGRC",
        "metrics.AURC",
        "metrics.Accuracy",
        "metrics.BrierScore",
        "metrics.CRPS",
        "metrics.ExpectedCalibrationError",
        "metrics.IntervalCoverage",
        "metrics.IntervalScore",
        "metrics.MeanAbsoluteError",
        "metrics.MeanIntervalWidth",
        "metrics.NegativeLogLikelihood",
        "metrics.Pinball",
        "metrics.PredictiveEntropy",
        "metrics.RegressionCalibrationError",
        "metrics.RootMeanSquaredError",
    ],
    "novelty": ["novelty.ClassDensity"],
    "serving": ["serving.Answer"],
}
for _module, _names in _REGISTERED.items():
    registration.on_first_use(f"{__name__}.{_module}", _names)
