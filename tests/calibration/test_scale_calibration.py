"""Scale calibration: a mean squared standardised residual of exactly 1."""

import numpy as np
import pytest
from wrong_model import wrong

import keras_uq_layers as uq
from keras_uq_layers.calibration import ScaleCalibration


@pytest.mark.parametrize("count", [100, 1000])
def test_the_spread_becomes_right_and_the_mean_stays(count):
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, 1))
    y = 0.5 * x + 0.3 + 1.2 * rng.normal(size=(count, 1))
    prediction = wrong(x)
    calibrator = ScaleCalibration().fit(prediction, y)
    assert abs(calibrator.factor[0] - 4) < 4 * 5 * np.sqrt(0.5 / count)
    found = calibrator.transform(prediction)
    np.testing.assert_allclose(found.mean, prediction.mean, rtol=1e-5, atol=1e-6)
    z = (y - found.mean) / found.std
    np.testing.assert_allclose(np.mean(z**2), 1.0, rtol=1e-5)
    # No other factor has a higher likelihood.
    nll = [
        -ScaleCalibration(factor).transform(prediction).log_prob(y).mean()
        for factor in calibrator.factor * np.array([0.98, 1.0, 1.02])
    ]
    assert nll[1] == min(nll)


def test_a_mixture_keeps_its_mean_and_gets_the_factor_on_every_distance():
    rng = np.random.default_rng(0)
    params = np.concatenate(
        [rng.normal(size=(3, 5, 2)), rng.uniform(0.5, 2, (3, 5, 2))], axis=-1
    )
    before = uq.Prediction(params, "laplace")
    factor = np.array([2.0, 0.5])
    after = ScaleCalibration(factor).transform(before)
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.std, factor * before.std, rtol=1e-5)
    for q in (0.1, 0.7):
        expected = before.mean + factor * (before.quantile(q) - before.mean)
        np.testing.assert_allclose(after.quantile(q), expected, rtol=1e-4, atol=1e-5)
    ends = ScaleCalibration(factor).interval(before, 0.8)
    np.testing.assert_allclose(ends, after.interval(0.8))


def test_errors():
    x = np.random.default_rng(0).normal(size=(50, 2))
    gamma = uq.Prediction(np.ones((1, 50, 2)), "gamma")
    with pytest.raises(ValueError, match=r"with a location and a scale.*Gamma"):
        ScaleCalibration().fit(gamma, np.ones(50))
    with pytest.raises(ValueError, match="at least 2 points"):
        ScaleCalibration().fit(wrong(x[:1]), x[:1])
    with pytest.raises(ValueError, match="`y` must differ from the mean"):
        ScaleCalibration().fit(wrong(x), wrong(x).mean)
    for bad in (0.0, -1.0, np.nan, [1.0, np.inf]):
        with pytest.raises(ValueError, match="`factor` must be a positive finite"):
            ScaleCalibration(bad)
    calibrator = ScaleCalibration().fit(wrong(x), 3 * x)
    with pytest.raises(ValueError, match=r"2 output\(s\), as many as .* with 1 output"):
        calibrator.transform(wrong(x[:, :1]))
