"""A check of the epistemic uncertainty, far outside of the batch."""

from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers.doctor import outputs
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.context import finite
from keras_uq_layers.doctor.context import is_float
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction import ClassPrediction
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.reading import family_of

_ROWS = 30
_DISTANCE = 10.0
_DRAWS = 16
# Of the pairs, one row of the batch and one far away. By chance it is a half.
_SHARE = 0.75


def far_away(context: Context) -> Findings:
    """A note where the doubt of the model does not grow away from the batch."""
    family = _family(context)
    is_random = bool(context.drawn_at_inference) or context.member_axis is not None
    x = context.x
    if family is None or not is_random or not _is_table(x):
        return
    rows = to_numpy(x).astype("float64")
    middle = rows.mean(axis=0)
    moved = middle + _DISTANCE * (rows - middle)
    near = _epistemic(context, family, x)
    far = _epistemic(context, family, ops.cast(moved, x.dtype))
    if not (finite(near) and finite(far)):
        return
    share = float(np.mean(far[:, None] > near) + 0.5 * np.mean(far[:, None] == near))
    if share >= _SHARE:
        return
    what = "standard deviation"
    if isinstance(family, ClassFamily):
        what = "mutual information"
    yield Finding(
        "blind-far-away",
        outputs.of_model(context)[0].name,
        f"With the rows of the batch moved {_DISTANCE:g} times as far from their "
        f"mean, the epistemic {what} has a median of {np.median(far):.3g}; in the "
        f"batch it is {np.median(near):.3g}. In {share:.0%} of the pairs a far row "
        "is doubted more than a row of the batch.",
        "Do not take it for a sign of unknown inputs. These grow with the distance to "
        "the training data: `uq.novelty.FeatureDensity(model).fit(x, y)`; "
        "`uq.RandomFourierFeatures` in front of the last layer with "
        "`uq.to_laplace(model, x, y)`; often `uq.to_laplace` alone.",
        problem=False,
    )


def _family(context: Context) -> Family | None:
    """The family of the only output, or None."""
    found = outputs.of_model(context)
    if len(found) != 1 or context.outputs is None:
        return None
    try:
        return found[0].family or family_of(context.model)
    except ValueError:  # it must be given
        return None


def _is_table(x: Any) -> bool:
    if not ops.is_tensor(x) or not is_float(x) or len(x.shape) != 2:
        return False
    return x.shape[0] >= _ROWS and finite(to_numpy(x))


def _epistemic(context: Context, family: Family, x: Any) -> Array:
    """The epistemic part of each row, `(N,)`: of the outputs, the largest."""
    draws = _DRAWS if context.drawn_at_inference else 1
    params = np.stack(
        [context.passed(training=False, draw=d + 1, x=x) for d in range(draws)]
    )
    if context.member_axis is not None:
        params = np.concatenate(np.moveaxis(params, 2, 1), axis=0)
    if isinstance(family, ClassFamily):
        found = ClassPrediction(params, family).mutual_information
    else:
        found = Prediction(params, family).epistemic_std
    return np.asarray(found).reshape(len(found), -1).max(axis=1)


CHECKS = [far_away]
