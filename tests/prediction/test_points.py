"""A plain prediction: the passes of a model whose output has no distribution."""

import keras
import numpy as np
import pytest
from small_models import inputs
from small_models import predict

import keras_uq_layers as uq

RNG = np.random.default_rng(0)
PASSES, ROWS = 30, 5


def points(passes=PASSES):
    return uq.Prediction(RNG.normal(size=(passes, ROWS, 2)), "point")


def plain(*last, random=False):
    dropout = uq.MCDropout(0.5) if random else keras.layers.Dropout(0.5)
    return keras.Sequential([keras.Input((3,)), dropout, *last])


def test_all_of_the_variance_is_epistemic():
    prediction = points()
    np.testing.assert_allclose(prediction.mean, prediction.samples.mean(axis=0))
    np.testing.assert_allclose(prediction.std, prediction.samples.std(axis=0))
    np.testing.assert_array_equal(prediction.epistemic_std, prediction.std)
    assert not prediction.aleatoric_std.any()


@pytest.mark.parametrize("q", [0.1, 0.5, 0.33, 1e-6, 1 - 1e-6])
def test_quantiles_are_those_of_the_passes(q):
    """The smallest pass up to which a share `q` of them lies; 0.1 * 30 is exact."""
    prediction = points()
    expected = np.quantile(prediction.samples, q, axis=0, method="inverted_cdf")
    found = prediction.quantile(q)
    np.testing.assert_array_equal(found, expected)
    assert (prediction.cdf(found) >= q).all()
    assert (prediction.cdf(found - 1e-6) < q + 1e-9).all()


def test_the_interval_of_equal_passes_is_an_error_that_says_what_to_add():
    same = np.repeat(points(1).samples, 3, axis=0)
    same[:, 0] = np.nan
    for prediction in (points(1), uq.Prediction(same, "point")):
        for call in (
            lambda p: p.interval(0.9),
            lambda p: p.to_dataframe(level=0.9),
            lambda p: uq.plotting.prediction_band(p, np.arange(ROWS)),
        ):
            with pytest.raises(
                NotImplementedError, match=r"its width .*SplitConformal"
            ):
                call(prediction)
        np.testing.assert_allclose(prediction.median, prediction.mean, rtol=1e-6)
    lower, upper = points(2).interval(0.9)
    assert (lower < upper).all()


def test_a_density_is_an_error_that_says_what_to_add():
    text = r"no log_prob.* `uq.DistributionHead`, or .*`uq.calibration.SplitConformal`"
    with pytest.raises(NotImplementedError, match=text):
        points().log_prob(np.ones((ROWS, 2)))
    model = plain(keras.layers.Dense(1))
    model.compile("sgd", loss=uq.losses.NegativeLogLikelihood("point"))
    with pytest.raises(NotImplementedError, match=text):
        model.evaluate(inputs(), np.ones(37), verbose=0)


@pytest.mark.parametrize("passes", [1, 2, 7])
def test_the_crps_is_the_energy_form(passes):
    prediction, y = points(passes), RNG.normal(size=(ROWS, 2))
    x = prediction.samples
    expected = np.abs(x - y).mean(axis=0)
    expected -= 0.5 * np.abs(x[:, None] - x[None]).mean(axis=(0, 1))
    np.testing.assert_allclose(prediction.crps(y), expected, rtol=1e-5)
    if passes == 1:
        np.testing.assert_allclose(prediction.crps(y), np.abs(x[0] - y), rtol=1e-5)


def test_draws_are_passes():
    prediction = points()
    draws = prediction.sample(50, seed=0)
    for row in range(ROWS):
        for draw in draws[:, row]:
            assert np.isclose(prediction.samples[:, row], draw).all(axis=-1).any()


def test_the_prediction_of_a_model_of_squared_errors():
    model, x = plain(keras.layers.Dense(2, "softplus")), inputs()
    model.compile("sgd", loss="mse")
    prediction = predict(model, x, samples=None)
    assert prediction.family == uq.families.Point()
    np.testing.assert_allclose(
        prediction.mean, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    assert "family Point()" in repr(prediction)
    assert "the noise of the data is not in it" in repr(prediction)
    assert "the noise of the data is not in it" not in repr(
        predict(model, x, family="normal", samples=None)
    )


def test_passes_of_a_random_model():
    model, x = plain(keras.layers.Dense(1), random=True), inputs()
    prediction = predict(model, x)
    lower, upper = prediction.interval(0.8)
    assert (lower <= prediction.mean).all()
    assert (prediction.mean <= upper).all()
    assert (prediction.epistemic_std > 0).all()
    moments = predict(model, x, keep_samples=False)
    np.testing.assert_allclose(moments.std, prediction.std, rtol=1e-4, atol=1e-6)
    assert "the noise of the data is not in it" in repr(moments)


def test_members_of_an_ensemble():
    ensemble = uq.Ensemble(lambda: plain(keras.layers.Dense(1)), 3)
    ensemble(inputs())
    prediction = predict(ensemble, inputs(), samples=None)
    assert prediction.family == uq.families.Point()
    assert len(prediction.samples) == 3
    answer = uq.serving_model(ensemble, level=0.5).predict(inputs(), verbose=0)
    assert set(answer) == {"mean", "std", "lower", "upper"}
    np.testing.assert_allclose(answer["std"], prediction.std, rtol=1e-4)
    lower, _ = prediction.interval(0.5)
    np.testing.assert_allclose(answer["lower"], lower, rtol=1e-4, atol=1e-6)


def test_a_server_answers_with_the_mean_alone():
    model = plain(keras.layers.Dense(1))
    answer = uq.serving_model(model).predict(inputs(), verbose=0)
    assert set(answer) == {"mean"}


def test_the_legend_says_of_what_the_band_is():
    pytest.importorskip("matplotlib")
    import matplotlib.pyplot as plt

    prediction = predict(plain(keras.layers.Dense(1), random=True), inputs())
    ax = uq.plotting.prediction_band(prediction, np.arange(37), level=[0.5, 0.9])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["90 % of the passes", "50 % of the passes", "mean"]
    plt.close("all")
