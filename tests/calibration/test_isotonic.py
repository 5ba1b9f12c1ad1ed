"""Isotonic calibration makes all quantiles right, under a wrong model too."""

import numpy as np
import pytest
from wrong_model import targets
from wrong_model import wrong

import keras_uq_layers as uq
from keras_uq_layers.calibration import IsotonicCalibration


@pytest.mark.parametrize("count", [100, 1000])
def test_coverage(count):
    rng = np.random.default_rng(count)
    rounds, level, shares = 60, 0.8, []
    for _ in range(rounds):
        x = rng.normal(size=(count + 200, 1))
        y = targets(rng, x)
        calibrator = IsotonicCalibration().fit(wrong(x[:count]), y[:count])
        new, y = wrong(x[count:]), y[count:]
        lower, upper = calibrator.interval(new, level)
        shares.append(np.mean((lower <= y) & (y <= upper)))
    error = 4 * np.std(shares) / np.sqrt(rounds)
    assert abs(np.mean(shares) - level) < error + 2 / count
    pit = calibrator.cdf(new, y)
    assert abs(pit.mean() - 0.5) < 4 * pit.std() / np.sqrt(200) + 2 / np.sqrt(count)


def test_the_map_is_the_share_of_targets_also_with_ties():
    """What an isotonic regression of the shares gives, worked out by hand."""
    prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 4, 1)), "normal")
    calibrator = IsotonicCalibration().fit(prediction, [0.0, -1.0, 0.0, 1.0])
    pit, share = calibrator.knots
    np.testing.assert_allclose(pit, [0, 0.158655, 0.5, 0.841345, 1], atol=1e-6)
    np.testing.assert_allclose(share, [0, 0.2, 0.6, 0.8, 1], atol=1e-12)


def test_errors():
    x = np.random.default_rng(0).normal(size=(50, 1))
    calibrator = IsotonicCalibration().fit(wrong(x[:10]), x[:10])
    with pytest.raises(ValueError, match="at least 39 calibration points"):
        calibrator.interval(wrong(x), 0.95)
    with pytest.raises(ValueError, match=r"`level` must be inside \(0, 1\)"):
        calibrator.interval(wrong(x), 0.0)
    with pytest.raises(ValueError, match=r"`q` must be inside \(0, 1\)"):
        calibrator.quantile(wrong(x), 1.0)
    plain = uq.Prediction(x[None], "point")
    with pytest.raises(ValueError, match="must have a distribution, which a plain"):
        IsotonicCalibration().fit(plain, x)
    with pytest.raises(ValueError, match="at least 2 points"):
        IsotonicCalibration().fit(wrong(x[:1]), x[:1])
    with pytest.raises(ValueError, match="`y` must be finite"):
        IsotonicCalibration().fit(wrong(x), np.nan * x)
    for bad in (
        [[0.0, 0.5, 1.0]],
        [[0.0, np.nan, 1.0], [0.0, 0.5, 1.0]],
        [[0.0, 0.5, 0.9], [0.0, 0.5, 1.0]],
        [[0.0, 0.5, 0.4, 1.0], [0.0, 0.2, 0.4, 1.0]],
    ):
        with pytest.raises(ValueError, match="`knots` must be two increasing rows"):
            IsotonicCalibration(knots=bad)
