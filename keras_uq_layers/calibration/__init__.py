"""Recalibration after training: honest intervals from a held-out set.

Every calibrator has `fit(prediction, y)` on data that the model was not
trained on. A prediction is a `Prediction` of `uq.predict`, or a params array,
read by the `family` given to the constructor; for classes it is an array of
probabilities. A calibrator is saved with `save`, or as part of any Keras
config: its fitted state is in `get_config`.
"""

import json

import keras

from keras_uq_layers import _namespace
from keras_uq_layers.calibration.conformal import ConformalQuantile
from keras_uq_layers.calibration.conformal import SplitConformal
from keras_uq_layers.calibration.isotonic import IsotonicCalibration
from keras_uq_layers.calibration.prediction_sets import AdaptivePredictionSets
from keras_uq_layers.calibration.scale import ScaleCalibration
from keras_uq_layers.calibration.temperature_scaling import TemperatureScaling


def save(calibrator, path):
    """Writes a fitted calibrator to a JSON file.

    Args:
        calibrator: One of the calibrators of this module.
        path: File name.
    """
    with open(path, "w", encoding="utf-8") as file:
        json.dump(keras.saving.serialize_keras_object(calibrator), file)


def load(path):
    """Reads a calibrator that `save` wrote, with its fitted state.

    Args:
        path: File name.

    Returns:
        The calibrator.
    """
    with open(path, encoding="utf-8") as file:
        return keras.saving.deserialize_keras_object(json.load(file))


__all__ = [
    "AdaptivePredictionSets",
    "ConformalQuantile",
    "IsotonicCalibration",
    "ScaleCalibration",
    "SplitConformal",
    "TemperatureScaling",
    "load",
    "save",
]

_namespace.define(__name__)
