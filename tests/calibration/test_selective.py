"""Among accepted predictions the risk stays below its level, as often as promised."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_uq_layers as uq
from keras_uq_layers.calibration import SelectivePrediction
from keras_uq_layers.calibration.selective import _p_values

RESAMPLES = 1000


def binary(p):
    """Predictions of a class, with these probabilities of an error."""
    return np.stack([1.0 - p, p], axis=1)


def calibrated(rng, rows):
    """Errors as often as the model says: a score t accepts a risk of t / 2."""
    p = 0.5 * rng.uniform(size=rows)
    return p, rng.uniform(size=rows) < p


@keras.saving.register_keras_serializable("tests")
def given_score(prediction):
    return prediction[:, 0]


@keras.saving.register_keras_serializable("tests")
def given_loss(prediction, y):
    return y


def thresholds(fitted):
    """Of `RESAMPLES` calibrations; 0, which accepts nothing, where there is none."""
    found = []
    for seed in range(RESAMPLES):
        try:
            found.append(fitted(np.random.default_rng(seed), seed).threshold)
        except ValueError:
            found.append(0.0)
    return np.array(found)


def assert_rare(violations, level=0.05):
    assert violations.sum() <= stats.binom.ppf(1 - 1e-6, RESAMPLES, level)


def test_the_risk_of_a_calibrated_model_is_below_the_level():
    def fitted(rng, seed):
        p, wrong = calibrated(rng, 2000)
        return SelectivePrediction(0.1, seed=seed).fit(binary(p), wrong)

    found = thresholds(fitted)
    risks = np.minimum(found, 0.5) / 2
    assert_rare(risks > 0.1)
    # With a known threshold it would accept 0.4 of the examples. Of a union bound over
    # the same thresholds it is 0.21.
    assert 0.25 < np.mean(2 * found) < 0.4


@pytest.mark.parametrize("loss", ["error", "booleans", "numbers"])
def test_no_threshold_where_the_risk_is_too_high_at_each(loss):
    """The hardest case: a search finds the threshold that looks best by chance."""
    mean = 0.1001

    def fitted(rng, seed):
        p = 0.5 * rng.uniform(size=300)
        if loss == "error":
            wrong = rng.uniform(size=300) < mean
            return SelectivePrediction(0.1, seed=seed).fit(binary(p), wrong)
        y = rng.beta(0.1, 0.1 / mean - 0.1, size=300)
        y = rng.uniform(size=300) < y if loss == "booleans" else y
        selective = SelectivePrediction(
            0.1, score=given_score, loss=given_loss, seed=seed
        )
        return selective.fit(p[:, None], y)

    found = thresholds(fitted)
    assert_rare(found > 0)
    if loss != "numbers":  # whose test is not exact
        assert found.any()


def test_a_shift_of_the_distribution_breaks_the_guarantee():
    """The model meets more hard examples than it says."""
    rng = np.random.default_rng(0)
    p, wrong = calibrated(rng, 4000)
    selective = SelectivePrediction(0.1).fit(binary(p), wrong)
    p, wrong = calibrated(rng, 4000)
    assert wrong[selective.accept(binary(p))].mean() < 0.1
    shifted = np.where(wrong, 0.3 * p, p)  # errors that the model is sure of
    assert wrong[selective.accept(binary(shifted))].mean() > 0.15


def test_p_values_are_those_of_scipy_and_of_the_definition():
    count, total = np.array([0, 1, 50, 299, 299, 2000]), np.array([0, 0, 3, 0, 1, 9])
    exact = _p_values(count, total, 0.01, exact=True)
    np.testing.assert_allclose(exact[1:], stats.binom.cdf(total, count, 0.01)[1:])
    # The upper bound of Clopper and Pearson is the risk at which p is the level.
    upper = stats.beta.ppf(0.95, 10, 1991)
    np.testing.assert_allclose(_p_values(count, total, upper, exact=True)[-1], 0.05)
    mean = total[1:] / count[1:]
    kl = stats.entropy([mean, 1 - mean], [np.full(5, 0.01), np.full(5, 0.99)])
    hoeffding = np.where(mean < 0.01, np.exp(-count[1:] * kl), 1.0)
    bentkus = np.e * stats.binom.cdf(np.ceil(total[1:]), count[1:], 0.01)
    found = _p_values(count, total.astype(float), 0.01, exact=False)
    np.testing.assert_allclose(found[1:], np.minimum(hoeffding, bentkus))
    assert exact[0] == found[0] == 1.0


def predictions():
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.normal(size=(4, 300, 3))
    yield uq.ClassPrediction(logits, "categorical"), "error_probability"
    yield uq.ClassPrediction(logits, "categorical"), "mutual_information"
    yield uq.ClassPrediction(logits[..., :1], "bernoulli"), "entropy"
    params = np.concatenate([logits[..., :1], np.exp(logits[..., 1:2])], axis=-1)
    yield uq.Prediction(params, "normal"), "std"
    yield uq.Prediction(params, "normal"), "epistemic_std"


def test_scores_by_name_are_those_of_the_prediction():
    for prediction, score in predictions():
        check_score(prediction, score)


def check_score(prediction, score):
    values = {
        "error_probability": lambda: 1 - prediction.mean.max(axis=-1),
    }.get(score, lambda: getattr(prediction, score))()
    values = values.reshape(300)
    loss = np.arange(300) > 290
    loss = loss[np.argsort(np.argsort(values))]  # the least sure ones are wrong
    selective = SelectivePrediction(0.05, score=score, loss=lambda p, y: y)
    accepted = selective.fit(prediction, loss).accept(prediction)
    np.testing.assert_array_equal(accepted, values <= selective.threshold)
    assert 0.5 < accepted.mean() <= 1.0
    part = prediction[accepted]
    assert selective.accept(part).all()


def test_all_are_accepted_where_all_are_right_and_nan_never():
    p = np.full((400, 3), 1 / 3)
    selective = SelectivePrediction(0.01).fit(p, np.zeros(400))
    assert selective.threshold == np.inf
    nothing = np.array([[[0.0, 1.0], [np.nan, np.nan]]])  # a row without an input
    prediction = uq.ClassPrediction(nothing, "categorical")
    assert selective.accept(prediction).tolist() == [True, False]


def test_too_few_rows_say_how_many():
    p = binary(np.linspace(0, 0.4, 1000))
    with pytest.raises(ValueError, match=r"at least 299 rows, if none .* 200 row"):
        SelectivePrediction(0.01).fit(p[:200], np.zeros(200))
    y = np.arange(1000) % 120 == 7
    with pytest.raises(ValueError, match=r"about (\d+) rows, if .* loss of 0.008"):
        SelectivePrediction(0.01).fit(p, y)
    y = np.arange(1000) % 20 == 7
    with pytest.raises(ValueError, match=r"no threshold has a mean loss below 0\.01"):
        SelectivePrediction(0.01).fit(p, y)


def test_functions_are_saved_by_their_registered_name(tmp_path):
    selective = SelectivePrediction(0.05, score=given_score, loss=given_loss)
    p = np.linspace(0, 1, 300)[:, None]
    selective.fit(p, p[:, 0] > 0.9)
    uq.calibration.save(selective, tmp_path / "selective.json")
    again = uq.calibration.load(tmp_path / "selective.json")
    assert again.score is given_score
    np.testing.assert_array_equal(again.accept(p), selective.accept(p))
    with pytest.raises(ValueError, match=r"`loss` must be a name, or .*registered"):
        SelectivePrediction(loss=lambda p, y: y).get_config()


def test_errors():
    p, y = binary(np.linspace(0, 0.4, 300)), np.zeros(300)
    for bad in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match="`risk` must be inside"):
            SelectivePrediction(bad)
        with pytest.raises(ValueError, match="`confidence` must be inside"):
            SelectivePrediction(confidence=bad)
    with pytest.raises(ValueError, match="`score` must be one of 'error_probability'"):
        SelectivePrediction(score="surprise")
    with pytest.raises(ValueError, match="`loss` must be one of 'error'"):
        SelectivePrediction(loss="mse")
    with pytest.raises(ValueError, match="`threshold` must be a number"):
        SelectivePrediction(threshold=np.nan)
    with pytest.raises(ValueError, match="must be fitted before use"):
        SelectivePrediction().accept(p)
    with pytest.raises(ValueError, match=r"`loss` must be between 0 and 1.* to 7"):
        SelectivePrediction(loss=lambda p, y: y + 7).fit(p, y)
    with pytest.raises(ValueError, match=r"`loss` must be one .*300 example.*\(9,\)"):
        SelectivePrediction(loss=lambda p, y: y).fit(p, y[:9])
    with pytest.raises(ValueError, match=r"`score` must be one number.*\(300, 2\)"):
        SelectivePrediction(score=lambda p: p).fit(p, y)
    normal = uq.Prediction(np.ones((1, 300, 2)), "normal")
    with pytest.raises(ValueError, match=r"must be of the family 'categorical'"):
        SelectivePrediction(score="std").fit(normal, y)
    with pytest.raises(ValueError, match=r"one that the prediction has.*entropy"):
        SelectivePrediction(score="entropy", loss=lambda p, y: y).fit(normal, y)


# In a model that is served


def member():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), uq.TemperatureScaling()]
    )


@pytest.mark.parametrize("score", ["error_probability", "entropy"])
def test_a_serving_model_accepts_what_the_calibrator_accepts(score, tmp_path):
    check_served(member(), score, tmp_path)


@pytest.mark.parametrize("score", ["mutual_information", "entropy"])
def test_a_served_ensemble_accepts_what_the_calibrator_accepts(score, tmp_path):
    check_served(uq.Ensemble(member, 2), score, tmp_path)


def check_served(model, score, folder):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    prediction = uq.predict(model, x, verbose=0)
    y = prediction.mean.argmax(axis=1)
    uncertain = uq.prediction.uncertainty.uncertainty(prediction, score)
    y = np.where(uncertain > np.quantile(uncertain, 0.8), (y + 1) % 3, y)
    selective = SelectivePrediction(0.05, score=score).fit(prediction, y)
    uq.serving_model(model, selection=selective).save(folder / "served.keras")
    served = keras.saving.load_model(folder / "served.keras", safe_mode=True)
    accepted = served.predict(x, verbose=0)["accept"]
    assert accepted.dtype == bool
    assert accepted.shape == (300,)
    clear = np.abs(uncertain - selective.threshold) > 1e-5  # beyond rounding
    expected = selective.accept(prediction)
    np.testing.assert_array_equal(accepted[clear], expected[clear])
    assert clear.mean() > 0.95
    assert 0.5 < expected.mean() < 0.9


def test_a_served_regression_accepts_by_its_std():
    model = keras.Sequential([keras.Input((3,)), uq.DistributionHead(1)])
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    prediction = uq.predict(model, x, verbose=0)
    middle = float(np.median(prediction.std)) + 1e-5
    selective = SelectivePrediction(score="std", threshold=middle)
    accepted = uq.serving_model(model, selection=selective)(x)["accept"]
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(accepted), selective.accept(prediction)
    )


def test_what_a_serving_model_cannot_decide():
    normal = keras.Sequential([keras.Input((3,)), uq.DistributionHead(1)])
    two = keras.Sequential([keras.Input((3,)), uq.DistributionHead(2)])
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for model, score, text in (
        (normal, "entropy", "one of classes"),
        (two, "std", "one with a single output"),
        (plain, "std", "one with a std"),
        (normal, "epistemic_std", "an `Ensemble`"),
    ):
        selective = SelectivePrediction(score=score, threshold=0.1)
        with pytest.raises(ValueError, match=f"`model` must be {text}.*{score}"):
            uq.serving_model(model, selection=selective)
    for bad in (SelectivePrediction(), 0.1, SelectivePrediction(score=given_score)):
        with pytest.raises(ValueError, match="`selection` must be a fitted"):
            uq.serving_model(normal, selection=bad)
