"""The temperature is that of highest likelihood, and stays in the model."""

import keras
import numpy as np
import pytest

import keras_uq_layers as uq


def test_temperature_is_fitted_and_stays_in_the_model(tmp_path):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.minimum((rng.uniform(size=(4000, 1)) > np.cumsum(p, 1)).sum(1), 3)
    layer = uq.TemperatureScaling()
    model = keras.Sequential([keras.layers.Dense(4), layer])
    model(logits)
    assert layer.fit(3.0 * logits, y) is layer
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


def test_two_classes_from_one_logit():
    layer = uq.TemperatureScaling()
    layer.fit(np.array([[2.0], [2.0], [2.0], [-2.0]]), [1, 1, 0, 0])
    assert abs(2.0 / float(layer.temperature) - np.log(3)) < 1e-5


def test_errors():
    p = np.full((50, 2), 0.5)
    for bad in (np.full(50, 2), np.full(50, -1), np.full(50, 0.5)):
        with pytest.raises(ValueError, match="`y` must hold labels from 0 to 1"):
            uq.TemperatureScaling().fit(p, bad)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="`temperature` must be a positive"):
            uq.TemperatureScaling(temperature=bad)
    prediction = uq.Prediction(p[None], "categorical")
    with pytest.raises(ValueError, match="`logits` must be an array, such as"):
        uq.TemperatureScaling().fit(prediction, np.ones(50))
    with pytest.raises(ValueError, match="no best temperature"):
        uq.TemperatureScaling().fit(p * [[1, 2]], np.ones(50))
    family = uq.families.Categorical(from_logits=False)
    with pytest.raises(ValueError, match="must be logits, not probabilities"):
        keras.Sequential(
            [
                keras.Input((2,)),
                uq.DistributionHead(3, family),
                uq.TemperatureScaling(),
            ]
        )
