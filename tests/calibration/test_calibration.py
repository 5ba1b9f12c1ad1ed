"""Each calibrator keeps its promise, under a wrong model too."""

import json

import keras
import numpy as np
import pytest
import scipy.stats as st
from backend import to_numpy

import keras_uq_layers as uq

C = uq.calibration


class Wrong:
    """A prediction that is biased and far too sure, with three attributes."""

    def __init__(self, x):
        self.mean = 0.5 * x + 0.3
        self.std = np.full_like(x, 0.3)

    def quantile(self, q):
        return self.mean + self.std * st.norm.ppf(q)

    def interval(self, level):
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def cdf(self, y):
        return st.norm.cdf((y - self.mean) / self.std)


def data(rng, count):
    x = rng.normal(size=(count, 1))
    return x, x + (0.5 + 0.5 * np.abs(x)) * rng.standard_t(4, size=(count, 1))


def params(x, scale=0.3):
    return np.concatenate([0.5 * x + 0.3, np.full_like(x, scale)], axis=1)


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("cls", [C.SplitConformal, C.ConformalQuantile])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_conformal_coverage(cls, count, level):
    rng = np.random.default_rng(count)
    rounds, shares = 200, []
    for _ in range(rounds):
        x, y = data(rng, count + 200)
        calibrator = cls(level).fit(Wrong(x[:count]), y[:count])
        lower, upper = calibrator.interval(Wrong(x[count:]))
        shares.append(np.mean((lower <= y[count:]) & (y[count:] <= upper)))
    error = 4 * np.std(shares) / np.sqrt(rounds)
    assert level - error < np.mean(shares) < level + 1 / (count + 1) + error
    # The test can fail: without calibration the model misses the level by far.
    lower, upper = Wrong(x).interval(level)
    assert np.mean((lower <= y) & (y <= upper)) < level - 0.2


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("randomized", [True, False])
def test_prediction_set_coverage(count, randomized):
    rng = np.random.default_rng(count)
    level, rounds, shares, sizes = 0.9, 200, [], []
    for _ in range(rounds):
        logits = 1.5 * rng.normal(size=(count + 200, 5))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        y = (rng.uniform(size=(len(p), 1)) > np.cumsum(p, axis=1)).sum(axis=1)
        y = np.minimum(y, 4)
        # Far too sure, and two classes mixed up.
        sure = np.exp(4 * logits[:, [1, 0, 2, 3, 4]])
        sure /= sure.sum(axis=1, keepdims=True)
        calibrator = C.AdaptivePredictionSets(
            level, randomized=randomized, seed=int(rng.integers(1e9))
        )
        sets = calibrator.fit(sure[:count], y[:count]).sets(sure[count:])
        shares.append(sets[np.arange(200), y[count:]].mean())
        sizes.append(sets.sum(axis=1).mean())
    error = 4 * np.std(shares) / np.sqrt(rounds)
    assert np.mean(shares) > level - error
    if randomized:
        assert np.mean(shares) < level + 1 / (count + 1) + error
        assert np.mean(sizes) < 4.5


@pytest.mark.parametrize("count", [100, 1000])
def test_isotonic_coverage(count):
    rng = np.random.default_rng(count)
    rounds, level, shares = 60, 0.8, []
    for _ in range(rounds):
        x, y = data(rng, count + 200)
        calibrator = C.IsotonicCalibration().fit(Wrong(x[:count]), y[:count])
        lower, upper = calibrator.interval(Wrong(x[count:]), level)
        shares.append(np.mean((lower <= y[count:]) & (y[count:] <= upper)))
    error = 4 * np.std(shares) / np.sqrt(rounds)
    assert abs(np.mean(shares) - level) < error + 2 / count
    pit = calibrator.cdf(Wrong(x[count:]), y[count:])
    assert abs(pit.mean() - 0.5) < 4 * pit.std() / np.sqrt(200) + 2 / np.sqrt(count)


@pytest.mark.parametrize("count", [100, 1000])
def test_scale_calibration(count):
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, 1))
    y = 0.5 * x + 0.3 + 1.2 * rng.normal(size=(count, 1))
    calibrator = C.ScaleCalibration().fit(params(x), y)
    assert abs(calibrator.factor[0] - 4) < 4 * 5 * np.sqrt(0.5 / count)
    moved = calibrator.transform(params(x))
    np.testing.assert_allclose(moved[:, :1], params(x)[:, :1])
    z = (y - moved[:, :1]) / moved[:, 1:]
    np.testing.assert_allclose(np.mean(z**2), 1.0, rtol=1e-5)
    # The factor of highest likelihood, on the params and on a prediction.
    nll = [
        -to_numpy(uq.families.Normal().log_prob(y, params(x, 0.3 * f))).mean()
        for f in calibrator.factor[0] * np.array([0.98, 1.0, 1.02])
    ]
    assert nll[1] == min(nll)
    same = C.ScaleCalibration().fit(Wrong(x), y)
    np.testing.assert_allclose(same.factor, calibrator.factor, rtol=1e-5)
    for ends in zip(
        calibrator.interval(params(x)), same.interval(Wrong(x)), strict=True
    ):
        np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-5)


def fitted():
    rng = np.random.default_rng(0)
    x, y = data(rng, 200)
    p = rng.dirichlet([1, 1, 1], size=200)
    family = uq.families.StudentT(df=4)
    return [
        C.SplitConformal(0.8, family).fit(params(x), y),
        C.ConformalQuantile(0.8, family).fit(params(x), y),
        C.IsotonicCalibration(family).fit(params(x), y),
        C.ScaleCalibration(family).fit(params(x), y),
        C.AdaptivePredictionSets(0.8, seed=3).fit(p, rng.integers(0, 3, 200)),
    ]


@pytest.mark.parametrize("calibrator", fitted(), ids=lambda c: type(c).__name__)
def test_saved_and_loaded(calibrator, tmp_path):
    C.save(calibrator, tmp_path / "c.json")
    again = C.load(tmp_path / "c.json")
    assert type(again) is type(calibrator)
    assert json.dumps(again.get_config()) == json.dumps(calibrator.get_config())
    if isinstance(again, C.AdaptivePredictionSets):
        p = np.random.default_rng(1).dirichlet([1, 1, 1], size=9)
        np.testing.assert_array_equal(again.sets(p), calibrator.sets(p))
    else:
        x = np.linspace(-1, 1, 5)[:, None]
        for a, b in zip(
            again.interval(params(x)), calibrator.interval(params(x)), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_temperature_is_fitted_and_stays_in_the_model(tmp_path):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.minimum((rng.uniform(size=(4000, 1)) > np.cumsum(p, 1)).sum(1), 3)
    layer = uq.TemperatureScaling()
    model = keras.Sequential([keras.layers.Dense(4), layer])
    model(logits)
    layer.fit(3.0 * logits, y)
    assert abs(float(layer.temperature) - 3) < 0.2

    def nll(t):
        z = 3.0 * logits / t
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(4000), y])

    best = float(layer.temperature)
    assert nll(best) <= min(nll(0.99 * best), nll(1.01 * best), nll(1.0))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert float(again.layers[-1].temperature) == best
    assert not layer.trainable_weights
    binary = uq.TemperatureScaling()
    binary.fit(np.array([[2.0], [2.0], [2.0], [-2.0]]), [1, 1, 0, 0])
    assert abs(2.0 / float(binary.temperature) - np.log(3)) < 1e-5


def test_too_few_points_say_how_many():
    x, y = data(np.random.default_rng(0), 98)
    for cls in (C.SplitConformal, C.ConformalQuantile):
        with pytest.raises(ValueError, match=r"0.99 must have at least 99 points"):
            cls(0.99).fit(params(x), y)
        cls(0.98).fit(params(x), y)
    for level, needed in [(0.9, 9), (0.95, 19), (0.8, 4)]:
        few = params(x[: needed - 1])
        with pytest.raises(ValueError, match=f"at least {needed} points. Received"):
            C.SplitConformal(level).fit(few, y[: needed - 1])
        C.SplitConformal(level).fit(params(x[:needed]), y[:needed])
    with pytest.raises(ValueError, match=r"0.9 must have at least 9 points"):
        C.AdaptivePredictionSets(0.9).fit([[0.5, 0.5]], [0])
    isotonic = C.IsotonicCalibration().fit(params(x[:10]), y[:10])
    with pytest.raises(ValueError, match="at least 39 calibration points"):
        isotonic.interval(params(x), 0.95)
    for cls in (C.ScaleCalibration, C.IsotonicCalibration):
        with pytest.raises(ValueError, match="at least 2 points"):
            cls().fit(params(x[:1]), y[:1])


def test_errors():
    x, y = data(np.random.default_rng(0), 50)
    with pytest.raises(ValueError, match="`level` must be between 0 and 1, both"):
        C.SplitConformal(1.0)
    with pytest.raises(ValueError, match="must be fitted before use"):
        C.SplitConformal().interval(params(x))
    with pytest.raises(ValueError, match=r"`y` must have shape \(50, 1\)"):
        C.SplitConformal().fit(params(x), y[:40])
    with pytest.raises(ValueError, match="`y` must be finite"):
        C.SplitConformal().fit(params(x), y * np.nan)
    with pytest.raises(ValueError, match="`family` must be one with a location"):
        C.ScaleCalibration("gamma")
    p = np.full((50, 2), 0.5)
    for bad in (np.full(50, 2), np.full(50, -1), np.full(50, 0.5)):
        with pytest.raises(ValueError, match="`y` must hold labels from 0 to 1"):
            C.AdaptivePredictionSets().fit(p, bad)
        with pytest.raises(ValueError, match="`y` must hold labels from 0 to 1"):
            uq.TemperatureScaling().fit(p, bad)
    with pytest.raises(ValueError, match="one label per example"):
        C.AdaptivePredictionSets().fit(p, np.zeros(49))
    with pytest.raises(ValueError, match="add up to 1"):
        C.AdaptivePredictionSets().fit(2 * p, np.zeros(50))
    with pytest.raises(ValueError, match="`temperature` must be a positive"):
        uq.TemperatureScaling(temperature=0.0)
    with pytest.raises(ValueError, match="no best temperature"):
        uq.TemperatureScaling().fit(p * [[1, 2]], np.ones(50))
