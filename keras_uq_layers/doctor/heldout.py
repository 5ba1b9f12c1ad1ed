"""Checks of the uncertainty on data that the model was not trained on."""

import numpy as np

from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.gradients import to_numpy
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.prediction import Prediction

_ROWS = 30
_LEVEL = 0.9
_COVERED = 0.6  # of the 90 % interval; by chance 0.73 with 30 rows
_RATIO = 3.0
_DRAWS = 16


def _moments(context, family, x):
    """Mean and standard deviation of the predictive, over draws: `(N, D)`."""
    draws = 1 if not context.drawn_at_inference else _DRAWS
    params = [context.passed(training=False, draw=d + 1, x=x) for d in range(draws)]
    params = np.stack(params)
    if getattr(context.model, "member_axis", None) is not None:
        params = np.concatenate(np.moveaxis(params, 2, 1), axis=0)
    prediction = Prediction(params, family)
    return prediction.mean, prediction.std


def _scores(context, family, x, y):
    mean, std = _moments(context, family, x)
    y = np.asarray(to_numpy(y), "float64").reshape(mean.shape)
    return (y - mean) / np.maximum(std, 1e-30), y - mean, std


def held_out(context):
    found = outputs.of_model(context)
    if context.validation is None or len(found) != 1 or found[0].family is None:
        return
    family = found[0].family
    if isinstance(family, ClassFamily):
        return
    x, y = context.validation_tensors
    if len(y) < _ROWS:
        return
    z, residual, std = _scores(context, family, x, y)
    seen, _, _ = _scores(context, family, context.x, context.y)
    if not np.isfinite(z).all():
        return
    covered = float(np.mean(np.abs(z) < 1.645))
    before = float(np.mean(np.abs(seen) < 1.645))
    numbers = (
        f"On {len(y)} held-out rows {covered:.0%} of the targets lie within the "
        f"{_LEVEL:.0%} interval (in the batch: {before:.0%}); the predicted standard "
        f"deviation has a median of {np.median(std):.3g}, the error a root mean "
        f"square of {np.sqrt(np.mean(residual**2)):.3g}."
    )
    spread, trained = np.sqrt(np.median(z**2)), np.sqrt(np.median(seen**2))
    if covered < _COVERED and before >= _COVERED and spread > _RATIO * trained:
        yield Finding(
            "variance-collapse",
            found[0].name,
            numbers,
            "The variance has been fitted to the training residuals: stop earlier "
            "on the validation loss, use fewer weights or "
            "`uq.losses.NegativeLogLikelihood(beta=0.5)`.",
        )
    elif covered < _COVERED:
        yield Finding(
            "over-confident",
            found[0].name,
            numbers,
            "Calibrate on held-out data (`uq.calibration`), or average an "
            "`uq.Ensemble`; check that both data sets are scaled alike.",
        )


CHECKS = [held_out]
