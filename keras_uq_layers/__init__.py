"""Keras 3 layers for uncertainty quantification."""

from keras_uq_layers import calibration
from keras_uq_layers import callbacks
from keras_uq_layers import constraints
from keras_uq_layers import diagnosis
from keras_uq_layers import families
from keras_uq_layers import losses
from keras_uq_layers import metrics
from keras_uq_layers import numerics
from keras_uq_layers import plotting
from keras_uq_layers import testing
from keras_uq_layers import variational
from keras_uq_layers._version import __version__
from keras_uq_layers.calibration import TemperatureScaling
from keras_uq_layers.deterministic import to_deterministic
from keras_uq_layers.diagnosis import Diagnosis
from keras_uq_layers.diagnosis import diagnose
from keras_uq_layers.ensemble import Ensemble
from keras_uq_layers.ensemble import bootstrap_weights
from keras_uq_layers.layers import *  # noqa: F403
from keras_uq_layers.layers import __all__ as _layers
from keras_uq_layers.prediction import ClassPrediction
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.prediction import predict
from keras_uq_layers.registration import custom_objects
from keras_uq_layers.serving import serving_model

__all__ = [
    "TemperatureScaling",
    "__version__",
    "calibration",
    "callbacks",
    "ClassPrediction",
    "Diagnosis",
    "Ensemble",
    "Prediction",
    "bootstrap_weights",
    "constraints",
    "custom_objects",
    "diagnose",
    "diagnosis",
    "families",
    "losses",
    "metrics",
    "numerics",
    "plotting",
    "predict",
    "serving_model",
    "testing",
    "to_deterministic",
    "to_tfp",
    "variational",
    *_layers,
]


def to_tfp(params, family="normal"):
    """The TensorFlow Probability distribution that these params describe.

    See `keras_uq_layers.tfp.to_tfp`; TensorFlow Probability is imported by
    the first call, not by `import keras_uq_layers`.
    """
    try:
        from keras_uq_layers.tfp import to_tfp
    except ImportError as error:
        raise ImportError(
            "`to_tfp` needs TensorFlow Probability, on any backend: "
            "`pip install tensorflow tensorflow-probability[tf]`. "
            f"Received: {error}"
        ) from error

    return to_tfp(params, family)
