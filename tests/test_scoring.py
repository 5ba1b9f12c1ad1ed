"""One weight for each output, in every loss and every metric."""

import inspect

import keras
import numpy as np
import pytest
import scipy.stats
from backend import to_numpy
from backend import value_and_gradients
from test_losses import Masked
from test_losses import data

import keras_uq_layers as uq

LOSSES, METRICS = uq.losses, uq.metrics
QUANTILES = uq.families.Quantiles([0.1, 0.9])
OF_CLASSES = ("Accuracy", "AUGRC", "AURC", "BrierScore", "ExpectedCalibrationError")
ABSTRACT = ("FamilyMetric", "MeanMetric")
SCORES = [
    getattr(space, name)
    for space in (LOSSES, METRICS)
    for name in space.__all__
    if inspect.isclass(getattr(space, name)) and name not in ABSTRACT
]
each_score = pytest.mark.parametrize(
    "score", SCORES, ids=lambda s: f"{s.__module__.split('.')[1]}.{s.__name__}"
)
WEIGHTS = np.random.default_rng(1).uniform(0.2, 2.0, (6, 3)).astype("float32")


def case(score):
    """The score, targets and params of three outputs."""
    y, params, _, _ = data((6,), units=3)
    if score.__name__ == "Pinball":
        return score([0.1, 0.9]), y, params
    family = "normal"
    if score.__name__ in OF_CLASSES:
        family, y, params = (
            uq.families.Bernoulli(),
            (y > 0).astype("float32"),
            params[:, :3],
        )
    elif score.__name__ == "PredictiveEntropy":
        family = "logistic"
    return score(family=family), y, params


def value(score, y, params, weights=None):
    if isinstance(score, keras.losses.Loss):
        return float(score(y, params, weights))
    score.reset_state()
    score.update_state(y, params, weights)
    return float(to_numpy(score.result()))


@each_score
def test_equal_weights_are_the_weight_of_the_row(score):
    score, y, params = case(score)
    rows = np.array([0.5, 1.0, 2.0, 0.0, 1.5, 3.0], "float32")
    each = np.repeat(rows[:, None], 3, axis=1)
    np.testing.assert_allclose(
        value(score, y, params, each), value(score, y, params, rows), rtol=1e-5
    )
    ones = np.ones((6, 3), "float32")
    np.testing.assert_allclose(
        value(score, y, params, ones), value(score, y, params), rtol=1e-5
    )


@each_score
def test_an_output_without_weight_does_not_count(score):
    """Whatever it holds; and the others do count."""
    score, y, params = case(score)
    weights = WEIGHTS.copy()
    weights[2, 1], weights[4] = 0.0, 0.0
    expected = value(score, y, params, weights)
    for other in (y, params):
        other[2, 1] = np.nan
        other[4] = np.nan
    if params.shape[1] == 6:
        params[2, 4] = np.nan
    np.testing.assert_allclose(value(score, y, params, weights), expected, rtol=1e-6)
    assert abs(value(score, y, params, (weights > 0) * WEIGHTS[::-1]) - expected) > 1e-6


@each_score
@pytest.mark.parametrize("shape", [(6, 2), (1, 3), (6, 3, 1), (5, 3), (3,), (3, 6)])
def test_other_shapes_are_an_error(score, shape):
    score, y, params = case(score)
    with pytest.raises(ValueError, match="`sample_weight` must have one value per ex"):
        value(score, y, params, np.ones(shape, "float32"))


def test_the_value_of_a_loss_and_of_a_metric():
    y, params, loc, scale = data((6,), units=3)
    nll = -scipy.stats.norm(loc, scale).logpdf(y)
    total = (WEIGHTS * nll).sum()
    for reduction, expected in (
        ("sum_over_batch_size", total / 6),
        ("sum", total),
        ("mean_with_sample_weight", total / WEIGHTS.mean(axis=1).sum()),
        (None, (WEIGHTS * nll).sum(axis=1)),
    ):
        loss = LOSSES.NegativeLogLikelihood("normal", reduction=reduction)
        np.testing.assert_allclose(
            to_numpy(loss(y, params, WEIGHTS)), expected, rtol=1e-5, err_msg=reduction
        )
    crps = to_numpy(uq.families.Normal().crps(y, params))
    np.testing.assert_allclose(
        value(LOSSES.CRPS("normal"), y, params, WEIGHTS),
        (WEIGHTS * crps).mean(),
        rtol=1e-5,
    )
    error = (WEIGHTS * abs(y - loc)).sum() / WEIGHTS.sum()
    mae = METRICS.MeanAbsoluteError("normal")
    np.testing.assert_allclose(value(mae, y, params, WEIGHTS), error, rtol=1e-5)
    metric = METRICS.NegativeLogLikelihood("normal")
    np.testing.assert_allclose(
        value(metric, y, params, WEIGHTS), 3 * total / WEIGHTS.sum(), rtol=1e-5
    )


def test_time_steps_and_a_mask():
    y, params, loc, scale = data((4, 3), units=2)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, (4, 3, 2))
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    nll = -scipy.stats.norm(loc, scale).logpdf(y)
    y[~mask] = np.nan
    found = value(
        LOSSES.NegativeLogLikelihood("normal"), y, Masked(mask)(params), weights
    )
    np.testing.assert_allclose(found, (weights * nll)[mask].sum() / mask.sum(), 1e-5)


def test_an_excluded_output_has_no_gradient():
    y, params, _, _ = data((6,), units=3)
    y[0, 1] = np.nan
    weights = np.ones((6, 3), "float32")
    weights[0, 1] = 0.0
    loss = LOSSES.NegativeLogLikelihood("normal")
    _, (gradient,) = value_and_gradients(lambda p: loss(y, p, weights), params)
    assert (gradient[0, [1, 4]] == 0).all()
    gradient[0, [1, 4]] = 1.0
    assert np.isfinite(gradient).all()
    assert (gradient != 0).all()


def test_intervals_and_their_weights():
    """The two ends of an output share its weight."""
    family = uq.families.Interval("normal")
    y, params, loc, scale = data((6,), units=3)
    ends = np.concatenate([y, np.full_like(y, np.inf)], axis=-1)
    terms = scipy.stats.norm(loc, scale).logsf(y)
    found = value(LOSSES.NegativeLogLikelihood(family), ends, params, WEIGHTS)
    np.testing.assert_allclose(found, -(WEIGHTS * terms).sum() / 6, rtol=1e-4)


def test_outputs_that_depend_on_one_another_have_one_weight():
    y, params, _, _ = data((6,), units=3)
    params = np.concatenate([params, params[:, :3]], axis=-1)
    loss = LOSSES.NegativeLogLikelihood("multivariate_normal")
    with pytest.raises(ValueError, match="'multivariate_normal', whose outputs are"):
        loss(y, params, WEIGHTS)


def test_fit_takes_them():
    """An output without weight moves no weight of the model."""
    x = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    y, _, _, _ = data((6,), units=3)
    weights = WEIGHTS.copy()
    weights[:, 1] = 0.0
    head = uq.DistributionHead(3)
    model = keras.Sequential([keras.Input((2,)), head])
    metric = METRICS.NegativeLogLikelihood()
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSSES.NegativeLogLikelihood(),
        weighted_metrics=[metric],
    )
    before = to_numpy(head.dense.kernel)
    logs = model.fit(x, y, sample_weight=weights, batch_size=6, verbose=0).history
    changed = (to_numpy(head.dense.kernel) != before).all(axis=0)
    assert changed.tolist() == [True, False, True] * 2
    scored_share = weights.sum() / weights.size
    np.testing.assert_allclose(logs["loss"][0], logs["nll"][0] * scored_share, 1e-5)
