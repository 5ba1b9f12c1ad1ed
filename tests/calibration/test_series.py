"""Adaptive conformal inference: any series is covered, in the long run."""

import numpy as np
import pytest

import keras_uq_layers as uq
from keras_uq_layers.calibration import AdaptiveConformal
from keras_uq_layers.calibration import SplitConformal

LEVEL, RATE, STEPS = 0.9, 0.05, 250


def run(calibrator, mean, series):
    """Which y are inside of their intervals, and the intervals' widths."""
    inside, widths = [], []
    for guess, y in zip(mean, series, strict=True):
        lower, upper = calibrator.interval(np.array([guess]))
        inside.append(lower[0] <= y <= upper[0])
        widths.append(upper[0] - lower[0])
        calibrator.update(np.array([y]))
    return np.array(inside), np.array(widths)


def world(kind):
    rng = np.random.default_rng(0)
    noise = rng.standard_t(4, size=STEPS + 200)
    step = np.arange(STEPS + 200)
    if kind == "grows":
        return noise * (1 + step / 50)
    if kind == "jumps":
        return noise + 8.0 * (step > 300)
    return np.where(step < 200, noise, 1e6 * rng.choice([-1, 1], size=len(step)))


@pytest.mark.parametrize("kind", ["grows", "jumps", "against"])
def test_the_share_inside_is_right_for_any_series(kind):
    """The bound of the paper holds for each series, without any probability."""
    series = world(kind)
    past, future = series[:200], series[200:]
    calibrator = AdaptiveConformal(LEVEL, RATE).fit(np.zeros(200), past)
    inside, _ = run(calibrator, np.zeros(STEPS), future)
    assert abs(inside.mean() - LEVEL) <= (1 + RATE) / (RATE * STEPS)
    # Without the updates, the shift breaks the guarantee.
    lower, upper = (
        SplitConformal(LEVEL).fit(np.zeros(200), past).interval(np.zeros(STEPS))
    )
    assert np.mean((lower <= future) & (future <= upper)) < LEVEL - 0.1


def test_one_step_by_hand():
    calibrator = AdaptiveConformal(0.5, 0.2).fit(np.zeros(3), [1.0, 2.0, 3.0])
    assert calibrator.interval(np.array([10.0])) == (8.0, 12.0)
    calibrator.update([10.5])  # inside
    assert calibrator.scores == [2.0, 3.0, 0.5]
    np.testing.assert_allclose(calibrator.current_level, 0.5 - 0.2 * 0.5)
    calibrator.interval(np.array([0.0]))
    calibrator.update([9.0])
    np.testing.assert_allclose(calibrator.current_level, 0.5)
    calibrator.current_level = 1.1
    assert calibrator.interval(np.array([0.0])) == (-np.inf, np.inf)
    calibrator.update([1e9])  # inside of an infinite interval
    np.testing.assert_allclose(calibrator.current_level, 1.0)
    calibrator.current_level = -0.1
    assert calibrator.interval(np.array([7.0])) == (7.0, 7.0)
    calibrator.update([7.0])  # outside of none
    np.testing.assert_allclose(calibrator.current_level, 0.0)


def test_an_interval_that_waits_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    params = np.stack([rng.normal(size=99), rng.uniform(1, 2, 99)], axis=1)
    prediction = uq.Prediction(params[None], "normal")
    calibrator = AdaptiveConformal().fit(prediction, rng.normal(size=99))
    assert calibrator.residuals == "std"
    lower, upper = calibrator.interval(prediction[:2])
    assert lower.shape == (2, 1)
    wide = (upper - lower)[:, 0] / params[:2, 1]
    np.testing.assert_allclose(wide[0], wide[1])
    uq.calibration.save(calibrator, tmp_path / "series.json")
    again = uq.calibration.load(tmp_path / "series.json")
    for one in (calibrator, again):
        one.update([0.0, 9.0])
    assert again.get_config() == calibrator.get_config()
    assert again.scores[-1] > again.scores[-2]


def test_errors():
    calibrator = AdaptiveConformal()
    with pytest.raises(ValueError, match="must be fitted before use"):
        calibrator.interval(np.zeros(1))
    calibrator.fit(np.zeros(20), np.ones(20))
    with pytest.raises(ValueError, match="`update` must follow a call of `interval`"):
        calibrator.update([1.0])
    calibrator.interval(np.zeros(1))
    with pytest.raises(ValueError, match=r"`y` must have shape \(1, 1\)"):
        calibrator.update([1.0, 2.0])
    with pytest.raises(ValueError, match="one output for each example"):
        calibrator.interval(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="`prediction` must be finite"):
        calibrator.interval(np.array([np.nan]))
    with pytest.raises(ValueError, match="`rate` must be a positive finite"):
        AdaptiveConformal(rate=0.0)
