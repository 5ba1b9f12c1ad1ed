"""Categorical and Bernoulli: oracles, extremes, and labels that are none."""

import keras
import numpy as np
import pytest
import strategies
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from keras import ops
from scipy import special
from scipy import stats

import keras_uq_layers as uq

CATEGORICAL = uq.families.Categorical()
BERNOULLI = uq.families.Bernoulli()
# From probabilities, as a model with a softmax or a sigmoid emits them.
SOFTMAX = uq.families.Categorical(from_logits=False)
SIGMOID = uq.families.Bernoulli(from_logits=False)
EACH = pytest.mark.parametrize(
    ("plain", "read"), [(CATEGORICAL, SOFTMAX), (BERNOULLI, SIGMOID)], ids=str
)


def logits(shape=(7, 4), seed=0):
    return (2 * np.random.default_rng(seed).normal(size=shape)).astype("float32")


def test_categorical_against_scipy():
    x = logits()
    p = special.softmax(x.astype("float64"), axis=-1)
    labels = np.arange(7) % 4
    np.testing.assert_allclose(
        to_numpy(CATEGORICAL.log_prob(labels, x)),
        np.log(p[np.arange(7), labels]),
        rtol=1e-5,
    )
    np.testing.assert_allclose(to_numpy(CATEGORICAL.mean(x)), p, rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(CATEGORICAL.variance(x)), p * (1 - p), rtol=1e-5
    )
    np.testing.assert_allclose(
        to_numpy(CATEGORICAL.entropy(x)), stats.entropy(p, axis=-1), rtol=1e-5
    )


def test_bernoulli_against_scipy():
    x = logits()
    p = special.expit(x.astype("float64"))
    y = (np.random.default_rng(1).uniform(size=x.shape) < 0.5).astype("float32")
    law = stats.bernoulli(p)
    np.testing.assert_allclose(
        to_numpy(BERNOULLI.log_prob(y, x)), law.logpmf(y).sum(axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(to_numpy(BERNOULLI.variance(x)), law.var(), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(BERNOULLI.entropy(x)), law.entropy(), rtol=1e-5)
    for value in (-0.5, 0.0, 0.5, 1.0, 2.0):
        at = np.full_like(x, value)
        np.testing.assert_allclose(
            to_numpy(BERNOULLI.cdf(at, x)), law.cdf(at), rtol=1e-5
        )
    for q in (0.01, 0.4, 0.99):
        np.testing.assert_array_equal(to_numpy(BERNOULLI.quantile(q, x)), law.ppf(q))
    # The CRPS is the integral of (F(t) - 1[t >= y])^2 over [0, 1].
    brier = np.where(y == 1, special.expit(-x.astype("float64")) ** 2, p**2)
    np.testing.assert_allclose(to_numpy(BERNOULLI.crps(y, x)), brier, rtol=1e-5)


@EACH
def test_probabilities_say_what_their_logits_say(plain, read):
    x = logits()
    p = plain.mean(x)
    one_hot = np.eye(4, dtype="float32")[np.arange(7) % 4]
    pairs = [(read.constrain(x), p), (read.mean(p), p)]
    for method in ("variance", "entropy"):
        pairs.append((getattr(read, method)(p), getattr(plain, method)(x)))
    for method in ("log_prob", "marginal_log_prob"):
        pairs.append((getattr(read, method)(one_hot, p), plain.log_prob(one_hot, x)))
    pairs[-1] = (pairs[-1][0], plain.marginal_log_prob(one_hot, x))
    pairs += list(
        zip(read.top_label(one_hot, p), plain.top_label(one_hot, x), strict=True)
    )
    noise = plain.draw_noise((50, 7, 4), seed=3)
    pairs.append((read.sample(p, noise=noise), plain.sample(x, noise=noise)))
    if plain is BERNOULLI:
        pairs.append((read.crps(one_hot, p), plain.crps(one_hot, x)))
        for at in (-0.5, 0.0, 0.5, 1.0):
            y = np.full((7, 4), at)
            pairs.append((read.cdf(y, p), plain.cdf(y, x)))
        for level in (0.01, 0.4, 0.99):
            pairs.append((read.quantile(level, p), plain.quantile(level, x)))
    for ours, theirs in pairs:
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), 2e-5, 1e-7)


@EACH
def test_a_family_of_probabilities_is_another_family(plain, read):
    assert read != plain
    assert uq.families.get(uq.families.serialize(read)) == read
    assert read.parameters == ("probabilities",)
    assert plain.parameters == ("logits",)
    with pytest.raises(ValueError, match="`from_logits` must be True or False"):
        type(plain)(from_logits="no")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_exactly_0_and_1(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        dtype = keras.backend.standardize_dtype(keras.ops.ones(1, "float64").dtype)
    info = np.finfo(dtype)
    p = np.array([[0.0], [1.0], [0.0], [1.0]]).astype(dtype)
    y = np.array([[0.0], [1.0], [1.0], [0.0]]).astype(dtype)
    worst = [0.0, 0.0, np.log(float(info.tiny)), np.log(float(info.eps) / 4)]
    value, (gradient,) = value_and_gradients(lambda p: SIGMOID.log_prob(y, p), p)
    np.testing.assert_allclose(value, worst, rtol=1e-6)
    assert np.isfinite(gradient).all()
    two = np.concatenate([1 - p, p], axis=-1)
    value, (gradient,) = value_and_gradients(
        lambda p: SOFTMAX.log_prob(y[:, 0], p), two
    )
    np.testing.assert_allclose(value, [0.0, 0.0, *[worst[2]] * 2], rtol=1e-6)
    assert np.isfinite(gradient).all()
    for family, params in ((SIGMOID, p), (SOFTMAX, two)):
        entropy, (gradient,) = value_and_gradients(family.entropy, params)
        np.testing.assert_array_equal(entropy, np.zeros_like(entropy))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("family", [SIGMOID, SOFTMAX], ids=str)
def test_numbers_that_are_no_probabilities_are_nan(family):
    params = np.array([[-1.0, 2.0]])
    y = np.array([[1.0, 0.0]])
    assert np.isnan(to_numpy(family.log_prob(y, params))).all()
    rounded = np.array([[0.0, 1.0 + 2e-16]])
    assert np.isfinite(to_numpy(family.log_prob(y, rounded))).all()


def test_two_classes_are_a_bernoulli():
    x = logits((9, 1))
    two = np.concatenate([np.zeros_like(x), x], axis=-1)
    labels = np.arange(9) % 2
    np.testing.assert_allclose(
        to_numpy(CATEGORICAL.log_prob(labels, two)),
        to_numpy(BERNOULLI.log_prob(labels, x)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        to_numpy(CATEGORICAL.entropy(two)), to_numpy(BERNOULLI.entropy(x))[:, 0], 1e-5
    )


def test_log_prob_is_the_cross_entropy_of_keras():
    x = logits()
    labels = np.arange(7) % 4
    soft = special.softmax(logits(seed=2), axis=-1)
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction=None)
    np.testing.assert_allclose(
        -to_numpy(CATEGORICAL.log_prob(labels, x)), to_numpy(loss(labels, x)), rtol=1e-5
    )
    loss = keras.losses.CategoricalCrossentropy(True, reduction=None)
    np.testing.assert_allclose(
        -to_numpy(CATEGORICAL.log_prob(soft, x)), to_numpy(loss(soft, x)), rtol=1e-5
    )
    p = special.softmax(x.astype("float64"), axis=-1)
    loss = keras.losses.CategoricalCrossentropy(reduction=None)
    np.testing.assert_allclose(
        -to_numpy(SOFTMAX.log_prob(soft, p)), to_numpy(loss(soft, p)), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float32", "bool"])
def test_labels_of_any_dtype_and_shape(dtype):
    x, labels = logits((3, 2)), np.array([0, 1, 1])
    expected = to_numpy(CATEGORICAL.log_prob(np.eye(2)[labels], x))
    for y in (labels, labels[:, None]):
        np.testing.assert_allclose(
            to_numpy(CATEGORICAL.log_prob(y.astype(dtype), x)), expected, rtol=1e-6
        )
    time = np.tile(labels, (4, 1))
    assert CATEGORICAL.log_prob(time, logits((4, 3, 2))).shape == (4, 3)


def test_labels_that_are_no_class_never_pass_for_a_perfect_prediction():
    x = logits((5, 3))

    def log_prob(x):
        return CATEGORICAL.log_prob(np.array([0, 3, -1, 1.5, 2]), x)

    value, (gradient,) = value_and_gradients(log_prob, x)
    assert np.isinf(value).tolist() == [False, True, True, True, False]
    assert np.isfinite(gradient).all()
    assert (gradient[0] != 0).all()
    assert (gradient[1:4] == 0).all()
    value, (gradient,) = value_and_gradients(
        lambda x: BERNOULLI.log_prob(np.array([[0.0], [1.5], [-1.0]]), x), x[:3, :1]
    )
    assert np.isinf(value).tolist() == [False, True, True]
    assert np.isfinite(gradient).all()


@given(strategies.arrays(strategies.reals(), max_dims=1, min_dims=1))
def test_bernoulli_is_never_nan(x):
    if not len(x):
        return
    for y in (0.0, 0.3, 1.0):
        for function in (
            lambda x, y=y: BERNOULLI.log_prob(ops.full_like(x, y), x),
            BERNOULLI.entropy,
        ):
            value, (gradient,) = value_and_gradients(function, x)
            assert not np.isnan(value).any()
            assert not np.isnan(gradient).any()


@given(strategies.arrays(strategies.reals(), max_dims=1, min_dims=1))
def test_categorical_is_never_nan(x):
    if len(x) < 2:
        return
    y = np.eye(len(x), dtype="float32")[0]
    for function in (
        lambda x: CATEGORICAL.log_prob(y, x),
        CATEGORICAL.entropy,
    ):
        value, (gradient,) = value_and_gradients(function, x)
        assert not np.isnan(value).any()
        assert not np.isnan(gradient).any()


def test_entropy_keeps_its_relative_accuracy_in_both_tails():
    for x in (-60.0, 60.0):
        exact = 61 * np.exp(-60.0)  # log1p(e) + 60 e to first order
        np.testing.assert_allclose(
            float(BERNOULLI.entropy(np.float32([x]))[0]), exact, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_draws_have_the_mean(name):
    family = uq.families.get(name)
    x = logits((2, 3))
    draws = to_numpy(family.sample(x, (20_000,), seed=1))
    p = to_numpy(family.mean(x))
    assert set(np.unique(draws)) == {0.0, 1.0}
    error = np.sqrt(p * (1 - p) / 20_000)
    assert (np.abs(draws.mean(axis=0) - p) < 5 * error).all()
    if name == "categorical":
        assert (draws.sum(axis=-1) == 1).all()


def test_a_classifier_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)).astype("float32")
    labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    for family, units, y in (("categorical", 3, labels), ("bernoulli", 1, labels > 0)):
        model = keras.Sequential([uq.DistributionHead(units, family=family)])
        model.compile(
            keras.optimizers.Adam(0.1),
            loss=uq.losses.NegativeLogLikelihood(family),
            metrics=[uq.metrics.BrierScore(family)],
        )
        history = model.fit(x, y, epochs=15, verbose=0).history
        # Against the shares of the classes: the first epoch depends on the seed.
        share = np.bincount(y.astype(int)) / len(y)
        assert history["loss"][-1] < 0.75 * -np.sum(share * np.log(share))
        brier = 1.0 - np.sum(share**2)
        brier = brier if family == "categorical" else 0.5 * brier
        assert history["brier_score"][-1] < 0.75 * brier


def test_against_tfp():
    pytest.importorskip("tensorflow_probability")
    x, y = logits(), np.eye(4, dtype="float32")[np.arange(7) % 4]
    for family in (CATEGORICAL, BERNOULLI, SOFTMAX, SIGMOID):
        params = to_numpy(family.constrain(x))
        law = uq.to_tfp(params, family)
        np.testing.assert_allclose(
            np.asarray(law.log_prob(y)), to_numpy(family.log_prob(y, params)), 1e-5
        )


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 3, 2]),
        np.array([[0], [3], [2]]),
        np.array([0.0, 3.0, 2.0], "float32"),
        np.full((3, 4), 0.25),
    ],
)
def test_the_loss_takes_labels_and_probabilities_in_numpy(y):
    x = logits((3, 4))
    loss = uq.losses.NegativeLogLikelihood(CATEGORICAL, reduction=None)
    expected = -to_numpy(CATEGORICAL.log_prob(y, x))
    np.testing.assert_allclose(to_numpy(loss(y, x)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 4, 2]), r"labels from 0 to 3 .* 1 value\(s\) .* first is 4"),
        (np.array([-1, 4, 2]), r"labels from 0 to 3 .* 2 value\(s\) .* first is -1"),
        (np.array([0.5, 1, 2]), "labels from 0 to 3"),
        (np.full((3, 4), 1.5), "probabilities"),
    ],
)
def test_the_loss_refuses_what_is_no_class(y, message):
    with pytest.raises(ValueError, match=message):
        uq.losses.NegativeLogLikelihood(CATEGORICAL)(y, logits((3, 4)))


def test_errors():
    with pytest.raises(ValueError, match="`units` must be the number of classes"):
        CATEGORICAL.params_size(1)
    with pytest.raises(ValueError, match="at least 2"):
        CATEGORICAL.log_prob(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="`y` must hold labels of shape"):
        CATEGORICAL.log_prob(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="`y` must hold labels of shape"):
        CATEGORICAL.log_prob(np.zeros(4), np.zeros((3, 4)))
    with pytest.raises(
        NotImplementedError, match=r"has no quantile\. Use the probabilities"
    ):
        CATEGORICAL.quantile(0.5, np.zeros((3, 4)))


# Classes with an order


def test_the_middle_of_classes_with_an_order():
    """Of the mixture of the passes."""
    p = np.array([[[0.2, 0.2, 0.6], [0.5, 0.5, 0.0], [0.1, 0.7, 0.2]]])
    other = np.array([[[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.3, 0.7, 0.0]]])
    family = uq.families.Categorical(from_logits=False, ordered=True)
    prediction = uq.ClassPrediction(np.concatenate([p, other]), family)
    assert prediction.median.tolist() == [1.0, 0.0, 1.0]
    assert prediction.quantile([0.1, 0.39, 0.99]).tolist() == [
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0],
        [2.0, 1.0, 2.0],
    ]
    lower, upper = prediction.interval(0.5)
    assert lower.tolist() == [0.0, 0.0, 1.0]
    assert upper.tolist() == [2.0, 1.0, 1.0]
    table = prediction.to_dataframe(level=0.5)
    assert table["upper"].tolist() == [2.0, 1.0, 1.0]
    with pytest.raises(NotImplementedError, match=r"ordered=True"):
        uq.ClassPrediction(p, SOFTMAX).interval(0.5)


def test_the_ranked_score_is_the_crps_of_the_label():
    """`E|Y - y| - E|Y - Y'| / 2`, and for two classes the Brier score."""
    family = uq.families.Categorical(from_logits=False, ordered=True)
    p = special.softmax(logits().astype("float64"), axis=-1)
    labels, y = np.arange(4), np.arange(7) % 4
    error = (p * np.abs(labels - y[:, None])).sum(axis=-1)
    pairs = np.abs(labels[:, None] - labels)
    exact = error - 0.5 * np.einsum("ni,nj,ij->n", p, p, pairs)
    np.testing.assert_allclose(to_numpy(family.crps(y, p))[:, 0], exact, rtol=1e-6)
    prediction = uq.ClassPrediction(p[None], family)
    np.testing.assert_allclose(prediction.crps(y), exact, rtol=1e-12)
    for score in (family.crps(np.full(7, 4), p), prediction.crps(np.full(7, 4))):
        assert (to_numpy(score) == np.inf).all()  # no such class
    two = np.array([[0.3, 0.7]])
    np.testing.assert_allclose(to_numpy(family.crps(np.array([1]), two)), 0.09)
    with pytest.raises(NotImplementedError, match="has no CRPS"):
        SOFTMAX.crps(y, p)
