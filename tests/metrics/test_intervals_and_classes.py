"""Scores are proper, calibration errors are 0 where they should be, streams add up."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import special
from scipy import stats

import keras_uq_layers as uq

M = uq.metrics
CATEGORICAL = uq.families.Categorical()
REGRESSION = [
    M.NegativeLogLikelihood("normal"),
    M.CRPS("normal"),
    M.IntervalCoverage(0.8, "normal"),
    M.MeanIntervalWidth(0.8, "normal"),
    M.IntervalScore(0.8, "normal"),
    M.RegressionCalibrationError("normal"),
    M.PredictiveEntropy("normal"),
    M.MeanAbsoluteError("normal"),
    M.RootMeanSquaredError("normal"),
]
CLASSES = [
    M.NegativeLogLikelihood(CATEGORICAL),
    M.BrierScore(CATEGORICAL),
    M.ExpectedCalibrationError(CATEGORICAL, bins=5),
    M.ExpectedCalibrationError(CATEGORICAL, bins=5, adaptive=True),
    M.PredictiveEntropy(CATEGORICAL),
    M.Accuracy(CATEGORICAL),
    M.AURC(CATEGORICAL),
    M.AUGRC(CATEGORICAL),
]


def metric_id(metric):
    return type(metric).__name__ + (
        "Adaptive" if getattr(metric, "adaptive", 0) else ""
    )


def regression(n=60, seed=0, outputs=2):
    rng = np.random.default_rng(seed)
    loc = rng.normal(size=(n, outputs))
    scale = rng.uniform(0.5, 2, size=(n, outputs))
    return rng.normal(loc, scale), np.concatenate([loc, scale], axis=-1)


def classes(n=60, seed=0, temperature=1.0, k=3):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    p = special.softmax(logits, axis=-1)
    labels = (p.cumsum(axis=-1) < rng.uniform(size=(n, 1))).sum(axis=-1)
    return np.minimum(labels, k - 1), logits / temperature


def data_for(metric):
    return classes() if metric in CLASSES else regression()


def compute(metric, y, params, weight=None):
    metric.reset_state()
    metric.update_state(y, params, weight)
    return float(metric.result())


@pytest.mark.parametrize("metric", REGRESSION + CLASSES, ids=metric_id)
def test_over_batches_as_over_the_whole(metric):
    y, params = data_for(metric)
    weight = np.random.default_rng(1).uniform(size=60)
    whole = compute(metric, y, params, weight)
    metric.reset_state()
    for part in (slice(0, 7), slice(7, 40), slice(40, 60)):
        metric.update_state(y[part], params[part], weight[part])
    np.testing.assert_allclose(float(metric.result()), whole, rtol=1e-4)


@pytest.mark.parametrize("metric", REGRESSION + CLASSES, ids=metric_id)
def test_weights_are_repetitions_and_zero_excludes(metric):
    y, params = data_for(metric)
    counts = np.random.default_rng(1).integers(0, 3, 60)
    repeated = compute(metric, np.repeat(y, counts, 0), np.repeat(params, counts, 0))
    params = params.copy()
    params[counts == 0] = np.nan  # whatever they hold
    weighted = compute(metric, y, params, counts.astype("float32"))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4)


@pytest.mark.parametrize("metric", REGRESSION + CLASSES, ids=metric_id)
def test_a_nan_that_counts_shows(metric):
    y, params = data_for(metric)
    params = params.copy()
    params[3] = np.nan
    assert np.isnan(compute(metric, y, params))


@pytest.mark.parametrize("metric", REGRESSION + CLASSES, ids=metric_id)
def test_config_and_empty_state(metric):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(metric)
    )
    assert again.get_config() == metric.get_config()
    assert float(again.result()) == 0.0


def test_masks_of_keras_are_honoured():
    model = keras.Sequential(
        [
            keras.layers.Embedding(5, 3, mask_zero=True),
            uq.DistributionHead(1),
        ]
    )
    metrics = [
        M.CRPS("normal"),
        M.RegressionCalibrationError("normal"),
        M.IntervalScore(0.9, "normal"),
    ]
    model.compile(weighted_metrics=metrics, loss=uq.losses.CRPS())
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    y = np.random.default_rng(0).normal(size=(2, 3, 1))
    y[tokens == 0] = np.nan
    found = model.evaluate(tokens, y, verbose=0, return_dict=True)
    kept = tokens != 0
    params = to_numpy(model(tokens))[kept]
    for name, fresh in zip(
        ("crps", "calibration_error", "interval_score"),
        (
            M.CRPS("normal"),
            M.RegressionCalibrationError("normal"),
            M.IntervalScore(0.9, "normal"),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(found[name], compute(fresh, y[kept], params), 1e-5)
    np.testing.assert_allclose(found["loss"], found["crps"], rtol=1e-5)


# Scores


@pytest.mark.parametrize("family", ["normal", "laplace"])
@given(y=st.floats(-8, 8), loc=st.floats(-3, 3), log_scale=st.floats(-1.0, 1.0))
def test_crps_against_numerical_integration(family, y, loc, log_scale):
    scale = np.exp(log_scale)
    law = {"normal": stats.norm, "laplace": stats.laplace}[family](loc, scale)
    exact = (
        integrate.quad(lambda t: law.cdf(t) ** 2, -60, y, epsabs=1e-11, limit=400)[0]
        + integrate.quad(lambda t: law.sf(t) ** 2, y, 60, epsabs=1e-11, limit=400)[0]
    )
    params = np.array([[loc, scale]], dtype="float64")
    found = uq.families.get(family).crps(np.array([[y]]), params)
    jax = keras.backend.backend() == "jax"
    np.testing.assert_allclose(float(found[0, 0]), exact, atol=1e-5 if jax else 1e-6)


def test_crps_loss_is_the_mean_over_outputs_and_has_gradients():
    y, params = regression()
    crps = to_numpy(uq.families.Normal().crps(y, params))
    loss = uq.losses.CRPS("normal")
    np.testing.assert_allclose(float(loss(y, params)), crps.mean(), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert again.get_config() == loss.get_config()
    # The map that needs fewer steps: the loss is what is tested.
    model = keras.Sequential([uq.DistributionHead(1, parameterization="scale")])
    model.compile(keras.optimizers.Adam(0.05), loss=loss)
    rng = np.random.default_rng(0)
    x = np.ones((500, 1), "float32")
    target = rng.normal(3.0, 0.5, 500)
    model.fit(x, target, epochs=25, verbose=0)
    loc, scale = model.predict(x[:1], verbose=0)[0]
    np.testing.assert_allclose([loc, scale], [3.0, 0.5], atol=0.1)


@given(
    shift=st.floats(-1.5, 1.5),
    log_factor=st.floats(-1.0, 1.0),
    family=st.sampled_from(["normal", "laplace"]),
)
def test_the_truth_wins_on_average(shift, log_factor, family):
    """Propriety, at quantiles of the truth: no noise but that of the grid."""
    if abs(shift) + abs(log_factor) < 0.1:
        return
    n = 2000
    grid = (np.arange(n) + 0.5) / n
    law = {"normal": stats.norm, "laplace": stats.laplace}[family]
    y = law.ppf(grid)[:, None]
    truth = np.tile([0.0, 1.0], (n, 1))
    other = np.tile([shift, np.exp(log_factor)], (n, 1))
    for metric in (
        M.NegativeLogLikelihood(family),
        M.CRPS(family),
        M.IntervalScore(0.8, family),
    ):
        assert compute(metric, y, truth) < compute(metric, y, other), metric.name


@given(p=st.floats(0.05, 0.95), q=st.floats(0.05, 0.95))
def test_the_true_probability_wins_on_average(p, q):
    if abs(p - q) < 0.02:
        return
    y = np.array([[0.0], [1.0]])
    weight = np.array([1 - p, p])

    def params(probability, family):
        logit = np.log(probability / (1 - probability))
        if family.name == "bernoulli":
            return np.full((2, 1), logit)
        return np.tile([0.0, logit], (2, 1))

    for family in (uq.families.Bernoulli(), CATEGORICAL):
        for metric in (M.NegativeLogLikelihood(family), M.BrierScore(family)):
            truth = compute(metric, y, params(p, family), weight)
            assert truth < compute(metric, y, params(q, family), weight)


def test_brier_score_by_definition():
    labels, logits = classes()
    p = special.softmax(logits, axis=-1)
    expected = ((p - np.eye(3)[labels]) ** 2).sum(axis=-1).mean()
    np.testing.assert_allclose(
        compute(M.BrierScore(CATEGORICAL), labels, logits), expected, 1e-5
    )
    assert np.isnan(compute(M.BrierScore(CATEGORICAL), np.full(60, 7), logits))


# Intervals and calibration


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_coverage_and_width_by_the_known_amount(factor):
    y, params = regression(20_000, outputs=1)
    distorted = params * [1.0, factor]
    level = 0.8
    z = stats.norm.ppf(0.9)
    coverage = compute(M.IntervalCoverage(level, "normal"), y, distorted)
    expected = 2 * stats.norm.cdf(z * factor) - 1
    np.testing.assert_allclose(coverage, expected, atol=5 * np.sqrt(0.25 / 20_000))
    width = compute(M.MeanIntervalWidth(level, "normal"), y, distorted)
    np.testing.assert_allclose(width, 2 * z * factor * params[:, 1].mean(), rtol=1e-4)


def test_interval_score_by_definition():
    y, params = regression(outputs=1)
    lower = stats.norm.ppf(0.05, params[:, :1], params[:, 1:])
    upper = stats.norm.ppf(0.95, params[:, :1], params[:, 1:])
    miss = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    np.testing.assert_allclose(
        compute(M.IntervalScore(0.9, "normal"), y, params),
        (upper - lower + 20 * miss).mean(),
        1e-4,
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_regression_calibration_error_by_the_known_amount(factor, shift):
    n = 20_000
    rng = np.random.default_rng(0)
    y = rng.normal(size=n)
    params = np.tile([shift, factor], (n, 1))
    found = compute(M.RegressionCalibrationError("normal", levels=19), y, params)
    p = np.arange(1, 20) / 20
    share = stats.norm.cdf(shift + factor * stats.norm.ppf(p))
    expected = ((share - p) ** 2).mean()
    error = np.sqrt(0.25 / n)
    np.testing.assert_allclose(
        found, expected, atol=10 * error * np.sqrt(expected) + 10 * error**2
    )
    if factor == 1.0 and shift == 0.0:
        assert found < 5 / (6 * n)


@pytest.mark.parametrize("adaptive", [False, True])
def test_ece_of_a_calibrated_classifier_is_that_of_chance(adaptive):
    labels, logits = classes(20_000)
    found = compute(
        M.ExpectedCalibrationError(CATEGORICAL, adaptive=adaptive), labels, logits
    )
    p = special.softmax(logits, axis=-1)
    accuracy = (p.argmax(axis=-1) == labels).mean()
    chance = np.sqrt(2 * 15 / (np.pi * 20_000) * accuracy * (1 - accuracy))
    assert found < 2 * chance


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("temperature", [0.25, 0.5, 3.0])
def test_ece_grows_by_the_known_amount(adaptive, temperature):
    """Confidence after tempering less confidence before: the mean gap."""
    labels, logits = classes(20_000, temperature=temperature)
    before = special.softmax(logits * temperature, axis=-1).max(axis=-1)
    after = special.softmax(logits, axis=-1).max(axis=-1)
    expected = np.abs((after - before).mean())
    found = compute(
        M.ExpectedCalibrationError(CATEGORICAL, adaptive=adaptive), labels, logits
    )
    # All gaps have one sign, so that the bins hide none of it.
    np.testing.assert_allclose(found, expected, atol=0.012)
    assert found > 0.05


def test_ece_by_definition():
    labels, logits = classes(500)
    p = special.softmax(logits, axis=-1)
    confidence, right = p.max(axis=-1), p.argmax(axis=-1) == labels

    def ece(cell, bins):
        return sum(
            abs((right - confidence)[cell == b].sum()) / 500 for b in range(bins)
        )

    fixed = np.ceil(confidence * 10).astype(int) - 1
    np.testing.assert_allclose(
        compute(M.ExpectedCalibrationError(CATEGORICAL, bins=10), labels, logits),
        ece(fixed, 10),
        rtol=1e-4,
    )
    equal = np.argsort(np.argsort(confidence)) * 10 // 500
    np.testing.assert_allclose(
        compute(
            M.ExpectedCalibrationError(CATEGORICAL, bins=10, adaptive=True),
            labels,
            logits,
        ),
        ece(equal, 10),
        atol=0.01,  # boundaries inside one of the 4096 bins
    )


def test_entropies():
    _, logits = classes()
    p = special.softmax(logits, axis=-1)
    np.testing.assert_allclose(
        compute(M.PredictiveEntropy(CATEGORICAL), np.zeros(60), logits),
        stats.entropy(p, axis=-1).mean(),
        rtol=1e-5,
    )
    y, params = regression()
    for family, law in (("normal", stats.norm), ("laplace", stats.laplace)):
        np.testing.assert_allclose(
            compute(M.PredictiveEntropy(family), y, params),
            law.entropy(0, params[:, 2:]).sum(axis=-1).mean(),
            rtol=1e-5,
        )


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0])
@pytest.mark.parametrize(
    "metric", [M.IntervalCoverage, M.MeanIntervalWidth, M.IntervalScore]
)
def test_bad_levels(metric, level):
    with pytest.raises(ValueError, match="`level` must be"):
        metric(level)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`family` must be one of classes"):
        M.BrierScore("normal")
    with pytest.raises(ValueError, match="`family` must be one of classes"):
        M.ExpectedCalibrationError("normal")
    with pytest.raises(ValueError, match="`bins` must be a positive integer"):
        M.ExpectedCalibrationError(CATEGORICAL, bins=0)
    with pytest.raises(ValueError, match="`levels` must be a positive integer"):
        M.RegressionCalibrationError("normal", levels=0)
    with pytest.raises(ValueError, match="`y` must have shape"):
        compute(M.CRPS("normal"), np.zeros((3, 2)), np.ones((3, 2)))
    with pytest.raises(NotImplementedError, match="has no CRPS"):
        compute(M.CRPS(CATEGORICAL), np.zeros(3), np.ones((3, 2)))
