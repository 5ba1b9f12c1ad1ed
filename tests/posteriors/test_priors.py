"""Priors: closed forms, Monte Carlo, and a scale that is learned."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from random_weights import randomize

import keras_uq_layers as uq
from keras_uq_layers.numerics import normal_kl
from keras_uq_layers.numerics import positive_inverse


@given(
    loc=st.floats(-1e3, 1e3),
    log_scale=st.floats(-8, 3),
    log_prior=st.floats(-3, 3),
)
def test_normal_prior_is_the_library_s_kl(loc, log_scale, log_prior):
    loc = np.full(3, loc, "float32")
    scale = np.full(3, 10.0**log_scale, "float32")
    prior = uq.priors.NormalPrior(10.0**log_prior)
    expected = 3 * float(normal_kl(loc, scale, 0.0, 10.0**log_prior)[0])
    got = float(
        prior.kl(ops.convert_to_tensor(loc), ops.convert_to_tensor(scale), None)
    )
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_kl_is_zero_at_the_prior_however_many_weights():
    prior = uq.priors.NormalPrior(1.0)
    ones = ops.ones((1_000_000,))
    assert float(prior.kl(0.0 * ones, ones, None)) == 0.0


def test_scale_mixture_kl_is_unbiased():
    """The mean over many weights, each with a draw of its own."""
    prior = uq.priors.ScaleMixturePrior(0.3, 1.0, 0.1)
    loc, scale, count = 0.4, 0.3, 100_000
    w = np.linspace(loc - 9 * scale, loc + 9 * scale, 20001)
    q = scipy.stats.norm(loc, scale)
    norm = scipy.stats.norm
    p = np.log(0.3 * norm(0, 1.0).pdf(w) + 0.7 * norm(0, 0.1).pdf(w))
    expected = np.trapezoid(q.pdf(w) * (q.logpdf(w) - p), w)
    draws = np.random.default_rng(0).normal(loc, scale, size=count)
    same = np.ones(count)
    kl = prior.kl(
        *(ops.convert_to_tensor(v, "float32") for v in (loc * same, scale * same)),
        ops.convert_to_tensor(draws, "float32"),
    )
    log_prior = np.log(0.3 * norm(0, 1.0).pdf(draws) + 0.7 * norm(0, 0.1).pdf(draws))
    assert abs(float(kl) / count - expected) < 4 * log_prior.std() / np.sqrt(count)


def test_learned_prior_scale_reaches_the_empirical_bayes_optimum():
    """With a frozen posterior the best scale is the root of E w^2."""
    prior = uq.priors.NormalPrior(1.0, trainable_scale=True)
    layer = uq.DenseVariational(4, kl_weight=1.0, prior=prior)
    layer.build((None, 3))
    randomize(layer, scale=0.3)
    moments = [
        layer.posterior.mean[k] ** 2 + layer.posterior.scale[k] ** 2
        for k in ("kernel", "bias")
    ]
    best = np.sqrt(np.concatenate([m.ravel() for m in moments]).mean())
    prior = layer.prior
    target = ops.convert_to_tensor(best, "float32")

    values = []
    for factor in (0.9, 1.0, 1.1):
        prior._raw_scale.assign(positive_inverse(factor * target, 1e-6))
        assert float(prior.scale) == pytest.approx(factor * best, rel=1e-4)
        values.append(float(layer.kl()))
    assert values[1] < min(values[0], values[2])
