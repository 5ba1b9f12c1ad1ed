"""Every calibrator, saved when fitted and loaded, answers as before."""

import inspect

import numpy as np
import pytest
from keras import ops
from wrong_model import targets
from wrong_model import wrong

import keras_uq_layers as uq
from keras_uq_layers import calibration

CALIBRATORS = [
    name for name in calibration.__all__ if inspect.isclass(getattr(calibration, name))
]


def arrays(name):
    """What the calibrator is fitted to, its targets, and a question."""
    rng = np.random.default_rng(0)
    if name == "BetaCalibration":
        logits = rng.normal(size=(200, 1))
        return logits, logits[:, 0] + rng.normal(size=200) > 0, logits[:9]
    if name in ("TemperatureScaling", "VectorScaling"):
        logits = rng.normal(size=(200, 3))
        return logits, (logits + rng.normal(size=(200, 3))).argmax(1), logits[:9]
    if name.endswith("Sets"):
        logits = rng.normal(size=(1, 200, 3))
        whole, part = (
            uq.ClassPrediction(values, "categorical")
            for values in (logits, logits[:, :9])
        )
        return whole, rng.integers(0, 3, 200), part
    if name == "SelectivePrediction":
        p = rng.uniform(0.5, 1.0, size=(500, 1))
        p = np.concatenate([p, 1.0 - p], axis=1)
        return p, p[:, 1] > 0.45, p[:9]
    x = rng.normal(size=(200, 1 if name == "AdaptiveConformal" else 2))
    return wrong(x), targets(rng, x), wrong(x[:9])


def answer(calibrator, question):
    """The public answer of a calibrator, as arrays."""
    for method in ("interval", "sets", "accept", "__call__"):
        if hasattr(calibrator, method):
            found = getattr(calibrator, method)(question)
            parts = found if isinstance(found, tuple) else (found,)
            return np.stack([ops.convert_to_numpy(part) for part in parts])
    raise AssertionError(f"{type(calibrator).__name__} answers nothing")


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_fitted_calibrator_answers_as_before(name, tmp_path):
    prediction, y, question = arrays(name)
    unfitted = getattr(calibration, name)()
    calibrator = getattr(calibration, name)().fit(prediction, y)
    before = answer(calibrator, question)
    calibration.save(calibrator, tmp_path / "calibrator.json")
    again = calibration.load(tmp_path / "calibrator.json")
    assert type(again) is type(calibrator)
    assert again.get_config() == calibrator.get_config()
    np.testing.assert_array_equal(answer(again, question), before)
    # The test can fail: the fit changes the answer, and the config with it.
    assert unfitted.get_config() != calibrator.get_config()
