"""Checks of the uncertainty on data that the model was not trained on."""

import math
from typing import Any

import numpy as np

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.prediction import Prediction

_ROWS = 30
_Z = 1.645  # standard deviations: the 90 % interval of a normal
_COVERED = 0.6  # of the 90 % interval; by chance 0.73 with 30 rows
_RATIO = 3.0
_DRAWS = 16


def _errors(
    context: Context, family: Family, x: Any, y: Tensor
) -> tuple[Array, Array, Array]:
    """Standardised errors, errors and standard deviations: each `(N, D)`."""
    draws = _DRAWS if context.drawn_at_inference else 1
    params = np.stack(
        [context.passed(training=False, draw=d + 1, x=x) for d in range(draws)]
    )
    if context.member_axis is not None:
        params = np.concatenate(np.moveaxis(params, 2, 1), axis=0)
    prediction = Prediction(params, family)
    std = np.maximum(prediction.std, 1e-30)
    numbers = family.target_numbers(y, std.shape[-1])
    residual = numbers.reshape(std.shape) - prediction.mean
    return residual / std, residual, std


def held_out(context: Context) -> Findings:
    found = outputs.of_model(context)
    if context.validation is None or len(found) != 1 or found[0].family is None:
        return
    family = found[0].family
    x, y = context.validation_tensors
    if isinstance(family, ClassFamily) or len(y) < _ROWS:
        return
    z, residual, std = _errors(context, family, x, y)
    seen, _, _ = _errors(context, family, context.x, context.y)
    if not np.isfinite(z).all():
        return
    covered = float(np.mean(np.abs(z) < _Z))
    before = float(np.mean(np.abs(seen) < _Z))
    if covered >= _COVERED:
        return
    numbers = (
        f"On {len(y)} held-out rows {covered:.0%} of the targets lie within the 90 % "
        f"interval (in the batch: {before:.0%}); the predicted standard deviation has "
        f"a median of {np.median(std):.3g}, the error a root mean square of "
        f"{math.sqrt(np.mean(residual**2)):.3g}."
    )
    spread, trained = np.sqrt(np.median(z**2)), np.sqrt(np.median(seen**2))
    if before >= _COVERED and spread > _RATIO * trained:
        yield Finding(
            "variance-collapse",
            found[0].name,
            numbers,
            "The variance has been fitted to the training residuals: stop earlier "
            "on the validation loss, use fewer weights or "
            "`uq.losses.NegativeLogLikelihood(beta=0.5)`.",
        )
    else:
        yield Finding(
            "over-confident",
            found[0].name,
            numbers,
            "Calibrate on held-out data (`uq.calibration`), or average an "
            "`uq.Ensemble`; check that both data sets are scaled alike.",
        )


CHECKS = [held_out]
