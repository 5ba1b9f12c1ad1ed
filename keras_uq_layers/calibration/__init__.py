"""Recalibration after training: honest intervals from a held-out set.

Every calibrator has `fit(prediction, y)` for data that the model was not
trained on, and then answers for new predictions. A prediction comes from
`uq.predict`, for any Keras model, or is `uq.Prediction(params[None], family)`
for an array of params. The conformal ones also take arrays of predictions of
any other library. `TemperatureScaling`, `VectorScaling` and `BetaCalibration`
are layers, and take logits or probabilities.

`save` writes a calibrator to a file. The fitted state is in `get_config`, so
that a calibrator can also be part of any Keras config.
"""

import json
import os
from typing import Any

import keras

from keras_uq_layers import _namespace
from keras_uq_layers.calibration.beta import BetaCalibration
from keras_uq_layers.calibration.conformal import ConformalQuantile
from keras_uq_layers.calibration.conformal import SplitConformal
from keras_uq_layers.calibration.isotonic import IsotonicCalibration
from keras_uq_layers.calibration.prediction_sets import AdaptivePredictionSets
from keras_uq_layers.calibration.prediction_sets import LeastAmbiguousSets
from keras_uq_layers.calibration.scale import ScaleCalibration
from keras_uq_layers.calibration.selective import SelectivePrediction
from keras_uq_layers.calibration.series import AdaptiveConformal
from keras_uq_layers.calibration.temperature_scaling import TemperatureScaling
from keras_uq_layers.calibration.vector_scaling import VectorScaling


def save(calibrator: Any, path: str | os.PathLike[str]) -> None:
    """Writes a fitted calibrator to a JSON file.

    Args:
        calibrator: One of the calibrators of this module.
        path: File name.
    """
    with open(path, "w", encoding="utf-8") as file:
        json.dump(keras.saving.serialize_keras_object(calibrator), file)


def load(path: str | os.PathLike[str]) -> Any:
    """Reads a calibrator that `save` wrote, with its fitted state.

    Args:
        path: File name.

    Returns:
        The calibrator.
    """
    with open(path, encoding="utf-8") as file:
        return keras.saving.deserialize_keras_object(json.load(file))


__all__ = [
    "AdaptiveConformal",
    "AdaptivePredictionSets",
    "BetaCalibration",
    "ConformalQuantile",
    "IsotonicCalibration",
    "LeastAmbiguousSets",
    "ScaleCalibration",
    "SelectivePrediction",
    "SplitConformal",
    "TemperatureScaling",
    "VectorScaling",
    "load",
    "save",
]

_namespace.define(__name__)
