"""Classes with an order: probabilities, gradients, and the fit of statsmodels."""

import keras
import numpy as np
import pytest
import scipy.stats
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq

LINKS = {"logistic": scipy.stats.logistic, "normal": scipy.stats.norm}
each_link = pytest.mark.parametrize("link", LINKS)


def head_with(link, kernel, cuts):
    """A head with these weights."""
    head = uq.OrdinalHead(len(cuts) + 1, link=link)
    head.build((None, len(kernel)))
    head.dense.kernel.assign(np.reshape(kernel, (-1, 1)))
    head.first_cut.assign(cuts[:1])
    gaps = ops.convert_to_tensor(np.diff(cuts).astype("float32"))
    raw = uq.numerics.positive_inverse(gaps, 1e-3)
    head.raw_gaps.assign(raw)
    return head


@each_link
def test_the_probabilities(link):
    cuts = np.array([-1.0, 0.5, 2.0])
    x = np.array([[-15.0], [-2.0], [0.3], [1.0], [15.0]], "float32")
    log_p = to_numpy(head_with(link, [1.0], cuts)(x))
    cdf = LINKS[link].cdf(cuts - x.astype("float64"))
    survival = LINKS[link].sf(cuts - x.astype("float64"))
    cdf = np.pad(cdf, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    survival = np.pad(survival, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    # A difference of the tails that are small.
    upper = survival[:, :-1] < 0.5
    exact = np.log(np.where(upper, -np.diff(survival), np.diff(cdf)))
    np.testing.assert_allclose(log_p, exact, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-6)


@each_link
def test_never_nan(link):
    """Far from all classes, and with cut points at their smallest distance."""
    head = head_with(link, [1.0], np.array([-1.0, -0.9989, 4.0]))
    x = np.array([[-1e15], [-1e4], [0.0], [1e4], [1e15]], "float32")
    log_p, (gradient,) = value_and_gradients(head, x)
    assert not np.isnan(log_p).any()
    assert not np.isnan(gradient).any()
    assert np.isfinite(log_p[1:4]).all()


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
    for weight in (head.first_cut, head.raw_gaps):
        log_likelihood(np.reshape(fit.params[:2], (-1, 1)))
        at = to_numpy(weight.value)
        for i in range(len(at)):
            for step in (-0.02, 0.02):
                weight.assign(at + step * (np.arange(len(at)) == i))
                again = ops.sum(family.log_prob(y, head(x.astype("float32"))))
                assert float(again) < total
        weight.assign(at)


def test_from_labels_to_a_median_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype("float32")
    y = np.digitize(2.0 * x[:, 0], [-1.0, 1.0])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), uq.OrdinalHead(3)])
    loss = uq.losses.NegativeLogLikelihood()
    model.compile(keras.optimizers.Adam(0.5), loss, run_eagerly=True)
    model.fit(x, y, epochs=15, batch_size=60, verbose=0)
    prediction = uq.predict(model, x, verbose=0)
    median = (prediction.probabilities.cumsum(-1) < 0.5).sum(-1)
    assert (median == y).mean() > 0.8
    assert (prediction.entropy <= np.log(3) + 1e-6).all()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"classes": 1}, "number of classes, at least 2"),
        ({"classes": 0}, "must be a positive integer"),
        (
            {"classes": 3, "link": "probit"},
            "`link` must be one of 'logistic', 'normal'",
        ),
    ],
)
def test_bad_arguments(config, text):
    with pytest.raises(ValueError, match=text):
        uq.OrdinalHead(**config)
