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


def two_ways(units, activation):
    """A model that ends in logits, and one with the same weights in probabilities."""
    logits = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    ended = keras.Sequential([*logits.layers, keras.layers.Activation(activation)])
    return logits, ended


@pytest.mark.parametrize(("units", "activation"), [(4, "softmax"), (1, "sigmoid")])
def test_probabilities_are_scaled_as_their_logits(units, activation):
    """Of a plain model, of what `uq.predict` returns, of a plain array."""
    logits, ended = two_ways(units, activation)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype("float32")
    z = logits.predict(x, verbose=0)
    y = np.argmax(z + rng.gumbel(size=(300, units)) if units > 1 else 0 * z, axis=1)
    if units == 1:
        y = (z[:, 0] + rng.logistic(size=300) > 0).astype(int)
    right = uq.TemperatureScaling().fit(z, y)
    p = ended.predict(x, verbose=0)
    for given in (p, uq.predict(ended, x, verbose=0)):
        layer = uq.TemperatureScaling(from_logits=False).fit(given, y)
        temperature = float(layer.temperature)
        np.testing.assert_allclose(temperature, float(right.temperature), rtol=1e-4)
    scaled = keras.Sequential([ended, layer])
    activation = keras.activations.get(activation)
    expected = keras.ops.convert_to_numpy(activation(right(z)))
    found = uq.predict(scaled, x, verbose=0)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be logits .* Received: probabilities"):
        uq.TemperatureScaling()(ended(x))


def test_a_probability_of_0_is_one_number_in_fit_and_in_call():
    """In float64, in which the arrays come, its logarithm would be another one."""
    p = np.array([[1.0, 0.0]] * 4)
    y = [0, 0, 0, 1]
    layer = uq.TemperatureScaling(from_logits=False).fit(p, y)
    found = keras.ops.convert_to_numpy(layer(p[:1]))
    np.testing.assert_allclose(found, [[0.75, 0.25]], rtol=1e-4)


def test_the_output_says_what_it_holds():
    """Of a plain `Dense`, whose logits would else be a plain prediction."""
    logits, _ = two_ways(3, "softmax")
    model = keras.Sequential([logits, uq.TemperatureScaling(2.0)])
    found = uq.predict(model, np.ones((2, 3)), verbose=0)
    assert found.family == uq.families.Categorical()


def test_errors():
    p = np.full((50, 2), 0.5)
    for bad in (np.full(50, 2), np.full(50, -1), np.full(50, 0.5)):
        with pytest.raises(ValueError, match="`y` must hold labels from 0 to 1"):
            uq.TemperatureScaling().fit(p, bad)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="`temperature` must be a positive"):
            uq.TemperatureScaling(temperature=bad)
    prediction = uq.Prediction(p[None], "categorical")
    several = uq.Prediction(np.stack([p, p]), "categorical")
    with pytest.raises(ValueError, match=r"`logits` must be an array, .* 2 pass"):
        uq.TemperatureScaling().fit(several, np.ones(50))
    with pytest.raises(ValueError, match=r"must be probabilities .* Received: logits"):
        uq.TemperatureScaling(from_logits=False).fit(prediction, np.ones(50))
    normal = uq.Prediction(p[None], "normal")
    with pytest.raises(ValueError, match=r"must be logits .* Received: other params"):
        uq.TemperatureScaling().fit(normal, np.ones(50))
    with pytest.raises(ValueError, match=r"must hold probabilities .* from 0 to 5"):
        uq.TemperatureScaling(from_logits=False).fit(p * [[0, 10]], np.ones(50))
    with pytest.raises(ValueError, match="no best temperature"):
        uq.TemperatureScaling().fit(p * [[1, 2]], np.ones(50))
    family = uq.families.Categorical(from_logits=False)
    with pytest.raises(ValueError, match=r"must be logits .* Received: probabilities"):
        keras.Sequential(
            [
                keras.Input((2,)),
                uq.DistributionHead(3, family),
                uq.TemperatureScaling(),
            ]
        )
