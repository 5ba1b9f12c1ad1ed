"""Classes with an order: probabilities, gradients, and the fit of statsmodels."""

import keras
import numpy as np
import pytest
import scipy.stats
from backend import has_float64
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq

LINKS = {"logistic": scipy.stats.logistic, "normal": scipy.stats.norm}
each_link = pytest.mark.parametrize("link", LINKS)


def head_with(link, kernel, cuts, **options):
    """A head with these weights: a column for the location, and for the scale."""
    kernel = np.reshape(kernel, (len(kernel), -1))
    head = uq.OrdinalHead(
        len(cuts) + 1, link=link, trainable_scale=kernel.shape[1] == 2, **options
    )
    head.build((None, len(kernel)))
    head.dense.kernel.assign(kernel)
    gaps = ops.convert_to_tensor(np.diff(cuts))
    raw = to_numpy(uq.numerics.positive_inverse(gaps, 1e-3))
    head.raw_cuts.assign(np.concatenate([cuts[:1], raw]))
    return head


@each_link
@pytest.mark.parametrize("kernel", [[[1.0]], [[1.0, 0.4]]], ids=["location", "scale"])
def test_the_probabilities(link, kernel):
    cuts = np.array([-1.0, 0.5, 2.0])
    x = np.array([[-15.0], [-2.0], [0.0], [0.3], [15.0]], "float32")
    log_p = to_numpy(head_with(link, kernel, cuts)(x))
    wide = x.astype("float64")
    # A softplus that is 1 at 0 and has a floor of 0.001.
    raw = (0.4 * wide if len(kernel[0]) == 2 else 0.0) + np.log(np.expm1(0.999))
    scale = 0.001 + np.log1p(np.exp(raw))
    z = (cuts - wide) / scale
    np.testing.assert_allclose(np.broadcast_to(scale, x.shape)[2], 1.0)
    cdf, survival = LINKS[link].cdf(z), LINKS[link].sf(z)
    cdf = np.pad(cdf, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    survival = np.pad(survival, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    # A difference of the tails that are small.
    upper = survival[:, :-1] < 0.5
    with np.errstate(divide="ignore"):
        exact = np.log(np.where(upper, -np.diff(survival), np.diff(cdf)))
    known = exact > -600.0
    assert known.mean() > 0.7
    np.testing.assert_allclose(log_p[known], exact[known], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-6)


@pytest.mark.skipif(not has_float64(), reason="JAX without x64 has none")
def test_cut_points_in_float64():
    cuts = np.array([-1.0, 0.1, 0.2, 5.0])
    head = head_with("logistic", [[1.0]], cuts, dtype="float64")
    assert keras.backend.standardize_dtype(head.cuts.dtype) == "float64"
    np.testing.assert_allclose(to_numpy(head.cuts), cuts, rtol=1e-14)


@each_link
@pytest.mark.parametrize("kernel", [[[1.0]], [[1.0, 1.0]]], ids=["location", "scale"])
def test_never_nan(link, kernel):
    """Far from all classes, and with cut points at their smallest distance."""
    head = head_with(link, kernel, np.array([-1.0, -0.9989, 4.0]))
    x = np.array([[-1e30], [-1e15], [-1e4], [0.0], [1e4], [1e15], [1e30]], "float32")
    log_p, (gradient,) = value_and_gradients(head, x)
    assert not np.isnan(log_p).any()
    assert np.isfinite(gradient).all()
    assert np.isfinite(log_p[2:5]).all()


@each_link
def test_the_maximum_is_that_of_statsmodels(link):
    """At its estimates, the likelihood is the same, and its slope is zero."""
    ordinal = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    hidden = x @ [1.0, -0.5] + rng.logistic(size=200)
    y = np.digitize(hidden, [-1.0, 0.3, 1.5])
    distr = {"logistic": "logit", "normal": "probit"}[link]
    model = ordinal.OrderedModel(y, x, distr=distr)
    fit = model.fit(method="bfgs", disp=False, gtol=1e-8)
    cuts = model.transform_threshold_params(fit.params)[1:-1]
    head = head_with(link, fit.params[:2], cuts)
    family = uq.families.Categorical()

    def log_likelihood(kernel):
        head.dense.kernel.assign(kernel)
        params = head(ops.convert_to_tensor(x, "float32"))
        return ops.sum(family.log_prob(y, params))

    total = float(log_likelihood(np.reshape(fit.params[:2], (-1, 1))))
    np.testing.assert_allclose(total, fit.llf, rtol=1e-5)
    for step in np.eye(2) * 0.01:
        for side in (-step, step):
            kernel = np.reshape(fit.params[:2] + side, (-1, 1))
            assert float(log_likelihood(kernel)) < total
    head.dense.kernel.assign(np.reshape(fit.params[:2], (-1, 1)))
    at = to_numpy(head.raw_cuts.value)
    for step in 0.02 * np.eye(3):
        for side in (-step, step):
            head.raw_cuts.assign(at + side)
            again = ops.sum(family.log_prob(y, head(x.astype("float32"))))
            assert float(again) < total


def test_from_labels_to_a_median_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype("float32")
    # The second input makes the answers uncertain, and moves no location.
    hidden = 2.0 * x[:, 0] + np.exp(1.5 * x[:, 1] - 1.5) * rng.logistic(size=60)
    y = np.digitize(hidden, [-1.0, 1.0])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), uq.OrdinalHead(3, trainable_scale=True)]
    )
    loss = uq.losses.NegativeLogLikelihood()
    metrics = [uq.metrics.CRPS()]
    model.compile(keras.optimizers.Adam(0.3), loss, metrics=metrics, run_eagerly=True)
    model.fit(x, y, epochs=20, batch_size=60, verbose=0)
    kernel = to_numpy(model.layers[-1].dense.kernel)
    assert kernel[0, 0] > 2.0 * abs(kernel[1, 0])
    assert kernel[1, 1] > 2.0 * abs(kernel[0, 1])
    prediction = uq.predict(model, x, verbose=0)
    assert prediction.median.shape == y.shape
    # More often right than the most frequent class is.
    assert (prediction.median == y).mean() > 1.5 * np.bincount(y).max() / len(y)
    lower, upper = prediction.interval(0.8)
    assert ((lower <= y) & (y <= upper)).mean() >= 0.8
    assert (prediction.entropy <= np.log(3) + 1e-6).all()
    score = model.evaluate(x, y, verbose=0, return_dict=True)["crps"]
    np.testing.assert_allclose(prediction.crps(y).mean(), score, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 3, 0.5])
def test_a_label_that_is_no_class(label):
    """On arrays; `uq.diagnose` finds it in the data of a `fit`."""
    params = uq.OrdinalHead(3)(np.zeros((2, 1)))
    loss = uq.losses.NegativeLogLikelihood()
    with pytest.raises(ValueError, match=r"labels from 0 to 2 .*categorical.* 1 value"):
        loss(np.array([0, label]), params)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"classes": 1}, "number of classes, at least 2"),
        ({"classes": 0}, "must be a positive integer"),
        ({"classes": 3, "trainable_scale": 1}, "`trainable_scale` must be True or Fa"),
        (
            {"classes": 3, "link": "probit"},
            "`link` must be one of 'logistic', 'normal'",
        ),
    ],
)
def test_bad_arguments(config, text):
    with pytest.raises(ValueError, match=text):
        uq.OrdinalHead(**config)
