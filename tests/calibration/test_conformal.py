"""Conformal intervals keep their guarantee, under a wrong model too."""

import numpy as np
import pytest
from wrong_model import share
from wrong_model import targets
from wrong_model import wrong

import keras_uq_layers as uq
from keras_uq_layers.calibration import ConformalQuantile
from keras_uq_layers.calibration import SplitConformal

BOTH = pytest.mark.parametrize("cls", [SplitConformal, ConformalQuantile])


def data(count, outputs=1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, outputs))
    return x, targets(rng, x)


@BOTH
@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage_is_at_least_the_level_and_hardly_more(cls, count, level):
    x, y = data(count + 200, outputs=200)
    calibrator = cls(level).fit(wrong(x[:count]), y[:count])
    new, y = wrong(x[count:]), y[count:]
    lower, upper = calibrator.interval(new)
    mean, error = share((lower <= y) & (y <= upper))
    assert level - error < mean < level + 1 / (count + 1) + error
    # The test can fail: without calibration the model misses the level by far.
    lower, upper = new.interval(level)
    assert np.mean((lower <= y) & (y <= upper)) < level - 0.2


def test_intervals_of_quantiles_and_of_heavy_tails_are_covered():
    """Families without a mean, or with another shape, take the same way."""
    x, y = data(499)
    bounds = np.concatenate([x - 0.3, x + 0.3], axis=1)
    for prediction in (
        uq.Prediction(bounds[None], uq.families.Quantiles([0.1, 0.9])),
        wrong(x, uq.families.StudentT(df=1.0)),
    ):
        calibrator = ConformalQuantile(0.8).fit(prediction, y)
        lower, upper = calibrator.interval(prediction)
        assert abs(np.mean((lower <= y) & (y <= upper)) - 0.8) < 0.004


def test_each_output_has_its_own_threshold():
    x, y = data(50, outputs=2)
    y[:, 1] *= 10
    calibrator = SplitConformal().fit(wrong(x), y)
    assert calibrator.threshold[1] > 4 * calibrator.threshold[0]
    assert calibrator.interval(wrong(x))[0].shape == (50, 2)


@BOTH
def test_another_number_of_outputs_is_an_error_that_names_both(cls):
    x, y = data(50, outputs=2)
    calibrator = cls().fit(wrong(x), y)
    message = r"must have 2 output\(s\), as many as .* with 1 output"
    with pytest.raises(ValueError, match=message):
        calibrator.interval(wrong(x[:, :1]))


@BOTH
def test_too_few_points_say_how_many(cls):
    x, y = data(99)
    for level, needed in [(0.99, 99), (0.95, 19), (0.9, 9), (0.8, 4)]:
        rows = slice(needed - 1)
        with pytest.raises(ValueError, match=f"at least {needed} points. Received"):
            cls(level).fit(wrong(x[rows]), y[rows])
        cls(level).fit(wrong(x[:needed]), y[:needed])


@BOTH
def test_a_threshold_that_no_fit_gives_is_refused(cls):
    for bad in (np.nan, [1.0, np.inf]):
        with pytest.raises(ValueError, match="`threshold` must be a finite"):
            cls(threshold=bad)
    if cls is SplitConformal:
        with pytest.raises(ValueError, match="`threshold` must be a finite non-neg"):
            cls(threshold=[1.0, -0.1])
        with pytest.raises(ValueError, match=r"`residuals` must be one of .*threshold"):
            cls(threshold=[1.0])
    else:
        assert cls(threshold=-0.1).threshold.tolist() == [-0.1]


def test_a_narrower_interval_does_not_turn_inside_out():
    x, _ = data(3)
    lower, upper = ConformalQuantile(threshold=-100.0).interval(wrong(x))
    np.testing.assert_array_equal(lower, upper)


def test_moments_are_enough_for_a_mean_and_a_std():
    x, y = data(99)
    whole = wrong(x)
    parts = (whole.mean, whole.aleatoric_std**2, whole.epistemic_std**2)
    moments = uq.Moments(*parts, "normal", passes=1)
    found = SplitConformal().fit(moments, y).interval(moments)
    expected = SplitConformal().fit(whole, y).interval(whole)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"its samples: .* keep_samples=True"):
        ConformalQuantile().fit(moments, y)


def test_errors():
    x, y = data(50)
    with pytest.raises(ValueError, match=r"`level` must be inside \(0, 1\)"):
        SplitConformal(1.0)
    with pytest.raises(ValueError, match="must be fitted before use"):
        SplitConformal().interval(wrong(x))
    with pytest.raises(ValueError, match=r"`y` must have shape \(50, 1\)"):
        SplitConformal().fit(wrong(x), y[:40])
    with pytest.raises(ValueError, match="`y` must be finite"):
        SplitConformal().fit(wrong(x), y * np.nan)
    with pytest.raises(ValueError, match=r"`y` must have shape \(50, 2\)"):
        SplitConformal().fit(np.ones((50, 2)), y)
    for bad in ("model", None, 1.0, [["a"]]):
        with pytest.raises(ValueError, match=r"`uq.Prediction`.*params\[None\]"):
            SplitConformal().fit(bad, y)
