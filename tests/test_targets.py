"""Targets that are intervals, from the arrays to a trained model."""

import keras
import numpy as np
import pytest
from backend import to_numpy

import keras_uq_layers as uq

T, F = uq.targets, uq.families
INF, NAN = np.inf, np.nan


# The arrays


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: T.censored([0.1, 5.0, 2.0], 0.1, 5), [[-INF, 0.1], [5, INF], [2, 2]]),
        (lambda: T.censored([3.0, 9.0], upper=[4.0, 8.0]), [[3, 3], [8, INF]]),
        (lambda: T.survival([5, 8], [True, False]), [[5, 5], [8, INF]]),
        (lambda: T.rounded([70, 0], 5), [[67.5, 72.5], [-2.5, 2.5]]),
        (lambda: T.rounded([[1.0, 2.0]], [1.0, 2.0]), [[0.5, 1.0, 1.5, 3.0]]),
        (lambda: T.intervals([1, 2], [1, INF]), [[1, 1], [2, INF]]),
        (
            lambda: T.missing([[1.0, NAN], [2.0, 3.0]]),
            [[1, -INF, 1, INF], [2, 3, 2, 3]],
        ),
    ],
)
def test_the_ends(made, expected):
    np.testing.assert_array_equal(made(), expected)


def test_the_dtype_of_the_numbers_is_kept():
    y = np.ones((3, 2), "float32")
    for made in (T.censored(y, 0.1), T.survival(y, y), T.rounded(y, 0.1), T.missing(y)):
        assert made.dtype == "float32"
        assert made.shape == (3, 4)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: T.censored([1.0, NAN], 0.0), r"`y` must hold no NaN: `uq.targets.mis"),
        (
            lambda: T.survival([NAN], [1]),
            r"`time` must hold no NaN: `uq.targets.missin",
        ),
        (lambda: T.rounded([NAN], 1), "`y` must hold no NaN"),
        (lambda: T.censored([1.0]), "`lower` must be given where `upper` is not"),
        (lambda: T.censored([1.0], 3, 2), "`lower` must be below `upper`. .*lower=3"),
        (lambda: T.censored([1.0], NAN), "`lower` must be no NaN"),
        (
            lambda: T.censored([1.0, 2.0], [0.0] * 3),
            "`lower` must broadcast against `y`",
        ),
        (lambda: T.survival([-1.0], [1]), "`time` must be a non-neg.* time=-1.0"),
        (lambda: T.survival([INF], [1]), "`time` must be a non-negative finite number"),
        (lambda: T.survival([1.0], [2]), "`event` must be 0 or 1. Received: event=2.0"),
        (lambda: T.survival([1.0, 2.0], [1]), "`event` must have the shape of `time`"),
        (lambda: T.intervals([1.0, 3.0], [2.0, 2.0]), "`lower` must be at most `uppe"),
        (lambda: T.intervals([1.0], [NAN]), "`upper` must hold no NaN"),
        (lambda: T.intervals([1.0, 2.0], [3.0]), r"shape of `lower`, \(2,\).* \(1,\)"),
        (lambda: T.rounded([1.0], 0), "`step` must be a positive finite number"),
    ],
)
def test_bad_numbers(call, text):
    with pytest.raises(ValueError, match=text):
        call()


PARAMS = np.array([[1.0, 1.0]])


@pytest.mark.parametrize(
    ("base", "y", "text"),
    [
        ("normal", [[2.0, 1.0]], r"lower <= upper.*1 other interval.* \[2, 1\]"),
        ("normal", [[NAN, 1.0]], "`y` must hold no NaN: `uq.targets.missing"),
        ("normal", [[NAN]], "`y` must hold no NaN: `uq.targets.missing"),
        ("log_normal", [[-2.0, -1.0]], "intervals that hold numbers between 0 and inf"),
        (
            "log_normal",
            [[-2.0, -2.0]],
            "numbers in .0, inf. for the family 'log_normal'",
        ),
    ],
)
def test_a_loss_refuses_bad_intervals_on_the_host(base, y, text):
    loss = uq.losses.NegativeLogLikelihood(F.Interval(base))
    with pytest.raises(ValueError, match=text):
        loss(np.array(y), PARAMS)
    if np.shape(y)[1] == 2:
        with pytest.raises(ValueError, match=text):
            uq.DistributionHead(1, F.Interval(base)).adapt(np.array(y))


def test_a_family_without_intervals_is_refused():
    with pytest.raises(ValueError, match=r"`base` must be a family with .*'normal'"):
        F.Interval("categorical")
    with pytest.raises(ValueError, match="`base` must be a family with"):
        F.Interval(F.Interval("normal"))
    assert F.Interval("normal") != F.Interval("laplace")
    assert repr(F.Interval("normal")) == "Interval(Normal())"


# A model


def model_of(units=2, family="normal", reduction="sum", optimizer="sgd", **head):
    keras.utils.set_random_seed(0)
    head = uq.DistributionHead(units, F.Interval(family), **head)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), head])
    loss = uq.losses.NegativeLogLikelihood(reduction=reduction)
    metrics = [uq.metrics.NegativeLogLikelihood()]
    # Without a graph, which costs more than these few steps.
    model.compile(optimizer, loss, metrics=metrics, run_eagerly=True)
    return model


def data(rows=12):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype("float32")
    return x, rng.normal(size=(rows, 2)).astype("float32")


def weights(model):
    return [to_numpy(w) for w in model.trainable_variables]


def test_missing_outputs_change_no_weight():
    x, y = data()
    model = model_of(optimizer="adam")
    before = weights(model)
    model.train_on_batch(x, T.missing(np.full_like(y, NAN)))
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(new, old)
    # Beside rows that count, whatever the inputs of the missing row are.
    y[0] = NAN
    after = []
    for first in (1.0, -1e3):
        x[0] = first
        model = model_of()
        model.train_on_batch(x, T.missing(y))
        after.append(weights(model))
    for one, other in zip(*after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_of_the_outputs_missing_is_training_on_the_others():
    """Of linear heads, each output learns from the rows where it is known."""
    x, y = data(40)
    known = np.random.default_rng(1).random(y.shape) < 0.5
    found, alone = [], []

    def train(x, y, units):
        head = uq.DistributionHead(
            units, F.Interval("normal"), kernel_initializer="zeros"
        )
        model = keras.Sequential([keras.Input((3,)), head])
        loss = uq.losses.NegativeLogLikelihood(reduction="sum")
        model.compile(keras.optimizers.SGD(1e-2), loss, run_eagerly=True)
        model.fit(x, T.missing(y), batch_size=len(x), epochs=6, verbose=0)
        return uq.predict(model, data(40)[0], verbose=0)

    both = train(x, np.where(known, y, NAN), 2)
    found = [both.mean, both.std]
    alone = [train(x[known[:, d]], y[known[:, d]][:, d : d + 1], 1) for d in range(2)]
    means = np.concatenate([p.mean for p in alone], axis=1)
    stds = np.concatenate([p.std for p in alone], axis=1)
    np.testing.assert_allclose(found[0], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], stds, rtol=1e-4)
    assert np.std(means) > 0.05  # they have learned


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_open_ends_survive_a_step(policy):
    x, y = data()
    y = T.censored(y, -0.5, 0.5)
    keras.utils.set_random_seed(0)
    head = uq.DistributionHead(2, F.Interval("normal"), dtype=policy)
    model = keras.Sequential([keras.layers.Dense(4, "tanh", dtype=policy), head])
    eager = policy != "float32"
    model.compile("sgd", uq.losses.NegativeLogLikelihood(), run_eagerly=eager)
    history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert all(np.isfinite(w).all() for w in weights(model))


def test_predictions_and_scores():
    x, y = data()
    model = model_of(reduction="sum_over_batch_size")
    censored = T.censored(y, -0.5, 0.5)
    logs = model.evaluate(x, censored, verbose=0, return_dict=True)
    params = model.predict(x, verbose=0)
    expected = -to_numpy(F.Interval("normal").log_prob(censored, params)).mean()
    np.testing.assert_allclose([logs["loss"], logs["nll"]], expected, rtol=1e-5)
    prediction = uq.predict(model, x, verbose=0)
    plain = uq.Prediction(prediction.samples, "normal")
    for name in ("mean", "std", "median"):
        np.testing.assert_array_equal(getattr(prediction, name), getattr(plain, name))
    np.testing.assert_array_equal(prediction.crps(y), plain.crps(y))
    np.testing.assert_allclose(
        -prediction.log_prob(censored).mean(), expected, rtol=1e-5
    )
    with pytest.raises(
        ValueError, match=r"one number for each output, shape .* 2.: a pr"
    ):
        prediction.crps(censored)
    uq.calibration.ConformalQuantile(0.8).fit(prediction, y)


def test_other_scores_take_exact_numbers_alone():
    params = np.array([[0.0, 1.0]])
    for score in (uq.metrics.MeanAbsoluteError, uq.metrics.CRPS, uq.losses.CRPS):
        score = score(F.Interval("normal"))
        assert float(score(np.array([[1.0]]), params)) > 0
        with pytest.raises(
            ValueError, match="`y` must hold one number for each output"
        ):
            score(np.array([[0.0, 1.0]]), params)


def test_adapt_takes_the_middles_that_are_known(tmp_path):
    y = np.array([[4.0, NAN], [6.0, 1.0], [NAN, 3.0], [9.0, NAN]])
    y = T.missing(y)
    y[3, 2] = INF  # the first output of the last row is at least 9
    y[1] = [5.5, 1.0, 6.5, 1.0]  # around 6
    model = model_of()
    model.layers[-1].adapt(y)
    np.testing.assert_allclose(to_numpy(model.layers[-1].target_loc), [5.0, 2.0])
    np.testing.assert_allclose(to_numpy(model.layers[-1].target_scale), [1.0, 1.0])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x, _ = data(4)
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert again.layers[-1].family == F.Interval("normal")
    with pytest.raises(ValueError, match="of intervals one with finite ends"):
        model.layers[-1].adapt(np.array([[1.0, -INF, 1.0, INF]]))
