"""Vector scaling and beta calibration are the optimum that SciPy finds."""

import keras
import numpy as np
import pytest
from scipy import optimize
from scipy import special

import keras_uq_layers as uq


def multiclass(rows=600):
    """Logits that are too sure by another factor for each class, and shifted."""
    rng = np.random.default_rng(0)
    right = 2.0 * rng.normal(size=(rows, 3))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    return (right + np.array([0.0, 1.0, -1.0])) * [3.0, 1.0, 2.0], y


def binary(rows=600):
    rng = np.random.default_rng(0)
    p = rng.beta(1.0, 2.0, size=(rows, 1))
    y = (rng.uniform(size=(rows, 1)) < p**2).astype(int)[:, 0]
    return special.logit(p), y


def test_vector_scaling_is_the_optimum_of_scipy():
    z, y = multiclass()

    def loss(point):
        return -special.log_softmax(point[:3] * z + point[3:], 1)[
            np.arange(600), y
        ].mean()

    best = optimize.minimize(loss, np.repeat([1.0, 0.0], 3), method="BFGS", tol=1e-9)
    layer = uq.VectorScaling(dtype="float64").fit(z, y)
    found = np.concatenate([np.asarray(v) for v in (layer.scale, layer.bias)])
    assert loss(found) <= best.fun + 1e-12
    np.testing.assert_allclose(found[:3], best.x[:3], rtol=1e-4)
    # A shift of all biases changes nothing: theirs are compared without it.
    np.testing.assert_allclose(
        found[3:] - found[3:].mean(), best.x[3:] - best.x[3:].mean(), atol=1e-4
    )
    temperature = float(uq.TemperatureScaling().fit(z, y).temperature)
    assert loss(found) < loss(np.repeat([1 / temperature, 0.0], 3)) - 0.01


def test_of_one_logit_it_is_platt_scaling():
    z, y = binary()

    def loss(point):
        scaled = point[0] * z[:, 0] + point[1]
        return np.mean(np.logaddexp(0, scaled) - y * scaled)

    best = optimize.minimize(loss, [1.0, 0.0], tol=1e-10).x
    layer = uq.VectorScaling(dtype="float64").fit(z, y)
    np.testing.assert_allclose(
        [float(layer.scale[0]), float(layer.bias[0])], best, rtol=1e-4
    )


@pytest.mark.parametrize("flip", [False, True])
def test_beta_calibration_is_the_optimum_of_scipy(flip):
    """Also where the best curve without bounds would decrease at one end."""
    z, y = binary()
    if flip:  # the surest are wrong
        y = np.where(z[:, 0] > 1.0, 1 - y, y)
    yes, no = special.log_expit(z[:, 0]), special.log_expit(-z[:, 0])

    def loss(point):
        scaled = point[0] * yes - point[1] * no + point[2]
        return np.mean(np.logaddexp(0, scaled) - y * scaled)

    bounds = [(0, None), (0, None), (None, None)]
    best = optimize.minimize(
        loss, [1.0, 1.0, 0.0], bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10}
    )
    layer = uq.BetaCalibration(dtype="float64").fit(z, y)
    found = [float(v) for v in (layer.a, layer.b, layer.c)]
    assert loss(found) <= best.fun + 1e-12
    np.testing.assert_allclose(found, best.x, atol=1e-3)
    assert (min(found[:2]) == 0) == flip


def test_a_beta_calibrated_model_is_calibrated():
    """The yes is as frequent as p squared: a curve that no temperature makes."""
    z, y = binary(20_000)
    layer = uq.BetaCalibration().fit(z, y)
    p = special.expit(z[:, 0])
    found = special.expit(keras.ops.convert_to_numpy(layer(z))[:, 0])
    assert np.abs(found - p**2).max() < 0.05
    temperature = uq.TemperatureScaling().fit(z, y)(z)
    assert np.abs(special.expit(np.asarray(temperature)[:, 0]) - p**2).max() > 0.15


@pytest.mark.parametrize(
    ("layer", "data", "activation"),
    [
        (uq.VectorScaling, multiclass, special.softmax),
        (uq.VectorScaling, binary, special.expit),
        (uq.BetaCalibration, binary, special.expit),
    ],
)
def test_probabilities_are_scaled_as_their_logits(layer, data, activation):
    z, y = data()
    z = np.clip(z, -8.0, 8.0)
    axis = {"axis": 1} if activation is special.softmax else {}
    p = activation(z, **axis)
    z = np.log(p) if axis else z  # the logits that a softmax leaves
    right = activation(np.asarray(layer().fit(z, y)(z)), **axis)
    family = "categorical" if axis else "bernoulli"
    prediction = uq.Prediction(
        p[None], getattr(uq.families, family.title())(from_logits=False)
    )
    for given in (p, prediction):
        found = layer(from_logits=False).fit(given, y)(p)
        np.testing.assert_allclose(np.asarray(found), right, atol=1e-4)


@pytest.mark.parametrize("layer", [uq.VectorScaling, uq.BetaCalibration])
def test_the_fitted_layer_stays_in_the_model_and_is_served(layer, tmp_path):
    z, y = binary()
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    fitted = layer().fit(z, y)
    model = keras.Sequential([plain, fitted])
    assert not fitted.trainable_weights
    uq.serving_model(model).save(tmp_path / "served.keras")
    again = keras.saving.load_model(tmp_path / "served.keras", safe_mode=True)
    expected = uq.predict(model, z, verbose=0)
    assert expected.family == uq.families.Bernoulli()
    found = again.predict(z, verbose=0)["mean"]
    np.testing.assert_allclose(found, expected.mean, rtol=1e-5)
    assert np.abs(found - special.expit(z)).max() > 0.1
    # The config of a fitted layer holds the fit.
    again = layer.from_config(fitted.get_config())
    np.testing.assert_allclose(np.asarray(again(z)), np.asarray(fitted(z)), rtol=1e-6)


def test_no_best_scaling():
    z, y = multiclass()
    for wrong in (z.argmax(axis=1), np.where(y == 2, 0, y)):
        with pytest.raises(ValueError, match="no best scaling for these rows"):
            uq.VectorScaling().fit(z, wrong)
    z, y = binary()
    for wrong in ((z[:, 0] > 0).astype(int), np.zeros(600)):
        with pytest.raises(ValueError, match="no best scaling for these rows"):
            uq.BetaCalibration().fit(z, wrong)


def test_errors():
    for bad in ([1.0, np.inf], 2.0):
        with pytest.raises(ValueError, match="`scale` must be a finite number for"):
            uq.VectorScaling(scale=bad)
    with pytest.raises(ValueError, match=r"`bias` must be one number for each of"):
        uq.VectorScaling(bias=[1.0]).build((None, 3))
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="`a` must be a non-negative finite"):
            uq.BetaCalibration(a=bad)
    with pytest.raises(ValueError, match="`c` must be a finite number"):
        uq.BetaCalibration(c=np.inf)
    with pytest.raises(ValueError, match="`inputs` must have one output"):
        uq.BetaCalibration().fit(np.ones((5, 2)), np.ones(5))
