"""From a model that samples to a prediction with its uncertainty."""

from keras_uq_layers.prediction.classes import ClassMoments
from keras_uq_layers.prediction.classes import ClassPrediction
from keras_uq_layers.prediction.moments import Moments
from keras_uq_layers.prediction.predict import predict
from keras_uq_layers.prediction.prediction import Prediction

__all__ = ["ClassMoments", "ClassPrediction", "Moments", "Prediction", "predict"]
