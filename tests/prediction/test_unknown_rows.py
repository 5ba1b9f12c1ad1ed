"""Rows for which there is no distribution: NaN for them alone, said once."""

import keras
import ml_dtypes
import numpy as np
import pytest
from small_models import with_one_warning

import keras_uq_layers as uq

PASSES, ROWS = 3, 40


def params(width=2):
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 2.0, size=(PASSES, ROWS, width))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_nan_of_one_pass_in_any_dtype(dtype):
    samples = params().astype(ml_dtypes.finfo(dtype).dtype)
    samples[1, 33, 0] = np.nan
    prediction = with_one_warning(
        r"^1 of 40 example\(s\) have params", lambda: uq.Prediction(samples, "normal")
    )
    assert np.flatnonzero(np.isnan(prediction.mean[:, 0])).tolist() == [33]


@pytest.mark.parametrize(
    ("family", "width", "wrong"),
    [
        ("normal", 2, [0.0, -1.0]),
        ("normal", 2, [0.0, 0.0]),
        ("student_t", 3, [0.0, 1.0, -4.0]),
        ("gamma", 2, [-1.0, 1.0]),
        ("beta", 2, [1.0, 0.0]),
        ("poisson", 1, [-1.0]),
        ("negative_binomial", 2, [1.0, -1.0]),
        ("multivariate_normal", 5, [0.0, 0.0, 1.0, -1.0, 0.3]),
        ("normal", 2, [np.nan, 1.0]),
    ],
)
def test_one_wrong_row_of_one_pass(family, width, wrong):
    samples = params(width)
    samples[..., 2:3] += 2.0  # degrees of freedom, or part of a Cholesky factor
    right = uq.Prediction(samples, family)
    samples[1, 33] = wrong
    prediction = with_one_warning(
        r"^1 of 40 example\(s\) have params", lambda: uq.Prediction(samples, family)
    )
    known = np.arange(ROWS) != 33
    y = np.ones((ROWS, prediction.mean.shape[-1]))
    for read in (
        lambda p: p.mean,
        lambda p: p.std,
        lambda p: p.aleatoric_std,
        lambda p: p.epistemic_std,
        lambda p: p.interval(0.8)[1],
        lambda p: p.cdf(y),
        lambda p: p.crps(y),
        lambda p: p.log_prob(0.5 * y if family == "beta" else y),
        lambda p: np.moveaxis(p.sample(2, seed=0), 0, -1),
    ):
        values = read(prediction)
        assert np.isnan(values[33]).all()
        assert np.isfinite(values[known]).all()
    np.testing.assert_allclose(
        prediction.interval(0.8)[0][known], right.interval(0.8)[0][known], rtol=1e-6
    )


def test_quantiles_that_cross():
    family = uq.families.Quantiles([0.1, 0.5, 0.9])
    samples = np.array([[[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]]])
    prediction = with_one_warning(
        "1 of 2 example", lambda: uq.Prediction(samples, family)
    )
    np.testing.assert_array_equal(np.isnan(prediction.median[:, 0]), [False, True])


def test_probabilities_that_are_none():
    family = uq.families.Categorical(from_logits=False, ordered=True)
    samples = np.array([[[0.4, 0.6], [-2.0, 3.0]]])
    prediction = with_one_warning(
        "1 of 2 example", lambda: uq.ClassPrediction(samples, family)
    )
    for found in (prediction.entropy, prediction.median, prediction.crps([0, 0])):
        np.testing.assert_array_equal(np.isnan(found), [False, True])
    np.testing.assert_array_equal(np.isnan(prediction.log_prob([0, 0])), [False, True])


def test_positions_of_a_series_are_rows_too():
    samples = np.abs(np.random.default_rng(0).normal(size=(2, 5, 3, 2))) + 0.1
    samples[0, 4, 1, 1] = -1.0
    prediction = with_one_warning(
        "1 of 15 example", lambda: uq.Prediction(samples, "normal")
    )
    unknown = np.isnan(prediction.quantile(0.3)[..., 0])
    assert np.argwhere(unknown).tolist() == [[4, 1]]
    assert np.isnan(prediction[4].std).sum() == 1


def test_all_rows_are_wrong():
    prediction = with_one_warning(
        "2 of 2 example", lambda: uq.Prediction(-np.ones((1, 2, 2)), "normal")
    )
    assert np.isnan(prediction.std).all()
    assert np.isnan(prediction.interval(0.5)).all()
    assert "std nan" in repr(prediction)


def model_of(activation=None):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
    )
    bias = model.layers[-1].bias
    bias.assign(np.array([0.0, 5.0], "float32"))
    return model


@pytest.mark.parametrize("keep", [True, False])
def test_a_model_whose_output_is_no_distribution(keep):
    model, x = model_of(), np.zeros((ROWS, 2), "float32")
    model.layers[-1].kernel.assign(np.full((4, 2), -1.0, "float32"))
    model.layers[0].kernel.assign(np.ones((2, 4), "float32"))
    x[35] = 10.0  # a scale of 5 - 4 * 20
    prediction = with_one_warning(
        r"1 of 40 example\(s\) have params",
        lambda: uq.predict(model, x, "normal", keep_samples=keep, verbose=0),
    )
    unknown = np.arange(ROWS) == 35
    np.testing.assert_array_equal(np.isnan(prediction.std[:, 0]), unknown)
    np.testing.assert_array_equal(np.isnan(prediction.mean[:, 0]), unknown)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_an_input_that_is_nan(keep, batch_size):
    """A fused relu of TensorFlow makes a 0 of it, and the head a number."""
    model, x = model_of(), np.ones((ROWS, 2), "float32")
    model.layers[-1].kernel.assign(np.zeros((4, 2), "float32"))
    x[33, 1] = np.nan
    options = {"keep_samples": keep, "batch_size": batch_size, "verbose": 0}
    prediction = with_one_warning(
        r"`x` holds NaN in 1 of 40", lambda: uq.predict(model, x, "normal", **options)
    )
    unknown = np.arange(ROWS) == 33
    np.testing.assert_array_equal(np.isnan(prediction.mean[:, 0]), unknown)


def test_whole_numbers_are_never_nan():
    tokens = keras.Sequential([keras.layers.Embedding(5, 3), keras.layers.Flatten()])
    tokens.add(uq.DistributionHead(1))
    prediction = uq.predict(tokens, np.zeros((3, 2), "int32"), verbose=0)
    assert np.isfinite(prediction.std).all()
