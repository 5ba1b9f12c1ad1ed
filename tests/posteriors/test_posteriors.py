"""Posteriors: their KL, scales and limits."""

import re

import keras
import numpy as np
import pytest
from backend import to_numpy
from random_weights import POSTERIORS
from random_weights import covariance
from random_weights import randomize
from random_weights import tensorflow_only

import keras_uq_layers as uq


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kl_against_the_closed_form_of_two_normals(posterior):
    layer = uq.DenseVariational(
        2,
        kl_weight=0.1,
        posterior=posterior,
        prior=uq.priors.NormalPrior(0.7),
        bias_prior=uq.priors.NormalPrior(3.0),
    )
    layer.build((None, 3))
    randomize(layer)
    cov = covariance(layer).astype("float64")
    mean = np.concatenate([m.ravel() for m in layer.posterior.mean.values()])
    prior = np.array([0.7] * 6 + [3.0] * 2) ** 2
    expected = 0.5 * (
        np.sum(np.diag(cov) / prior)
        + np.sum(mean**2 / prior)
        - len(mean)
        + np.sum(np.log(prior))
        - np.linalg.slogdet(cov)[1]
    )
    assert float(layer.kl()) == pytest.approx(expected, rel=1e-5)
    scale = np.concatenate([s.ravel() for s in layer.posterior.scale.values()])
    np.testing.assert_allclose(scale**2, np.diag(cov), rtol=1e-5)
    assert len(layer.losses) == 1
    assert float(layer.losses[0]) == pytest.approx(0.1 * expected, rel=1e-5)


@tensorflow_only
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kl_of_tfp(posterior):
    import tensorflow_probability as tfp

    tfd = tfp.distributions
    layer = uq.DenseVariational(3, kl_weight=0.1, posterior=posterior)
    layer.build((None, 4))
    randomize(layer)
    loc = np.concatenate([m.ravel() for m in layer.posterior.mean.values()])
    twin = tfd.MultivariateNormalTriL(
        loc.astype("float64"), np.linalg.cholesky(covariance(layer).astype("float64"))
    )
    prior = tfd.MultivariateNormalDiag(np.zeros(15), np.ones(15))
    expected = float(tfd.kl_divergence(twin, prior))
    assert float(layer.kl()) == pytest.approx(expected, rel=1e-5)


def test_full_covariance_that_does_not_fit_names_the_way_out():
    layer = uq.DenseVariational(512, kl_weight=0.1, posterior="full_covariance")
    message = (
        "A full covariance of 262656 weights has 34493955840 entries, more than "
        '`max_entries=10000000`. Use `posterior="low_rank"`'
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.build((None, 512))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_single_weight(posterior):
    layer = uq.DenseVariational(1, kl_weight=0.1, use_bias=False, posterior=posterior)
    outputs = layer(np.ones((2, 1), "float32"))
    assert np.isfinite(to_numpy(outputs)).all()
    assert np.isfinite(float(layer.kl()))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_training_starts_like_the_deterministic_layer(posterior):
    layer = uq.DenseVariational(64, kl_weight=0.1, posterior=posterior)
    if posterior == "full_covariance":
        layer = uq.DenseVariational(16, kl_weight=0.1, posterior=posterior)
    layer.build((None, 32))
    noise = np.mean(layer.posterior.scale["kernel"] ** 2)
    assert noise < 0.05 * np.var(layer.posterior.mean["kernel"])


def test_signal_to_noise_is_the_mean_in_units_of_the_scale():
    layer = uq.DenseVariational(2, kl_weight=0.1, posterior="low_rank")
    layer.build((None, 6))
    posterior = randomize(layer).posterior
    ratio = posterior.signal_to_noise
    assert ratio["kernel"].shape == (6, 2)
    for name, values in ratio.items():
        expected = abs(posterior.mean[name]) / posterior.scale[name]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def random_covariance(n, rng):
    root = rng.normal(size=(n, n + 2))
    return root @ root.T


def test_a_covariance_that_is_assigned():
    rng = np.random.default_rng(0)
    layer = uq.DenseVariational(2, kl_weight=0.1, posterior="full_covariance")
    layer.build((None, 3))
    expected = random_covariance(8, rng)
    layer.posterior.assign_root(np.linalg.cholesky(expected))
    np.testing.assert_allclose(covariance(layer), expected, rtol=1e-4, atol=1e-5)


def test_kronecker_factors_that_are_assigned_make_a_matrix_normal():
    """With a constant `S` the covariance is a Kronecker product."""
    rng = np.random.default_rng(0)
    layer = uq.DenseVariational(2, kl_weight=0.1, posterior="kronecker")
    layer.build((None, 3))
    rows, units = rng.normal(size=(4, 4)), rng.normal(size=(2, 2))
    layer.posterior.assign_factors(rows, units, np.full(8, 0.5))
    expected = 0.25 * np.kron(rows @ rows.T, units @ units.T)
    np.testing.assert_allclose(covariance(layer), expected, rtol=1e-4, atol=1e-5)


def test_kronecker_needs_weights_of_one_width():
    layer = uq.Variational(
        keras.layers.Bidirectional(keras.layers.SimpleRNN(2)),
        kl_weight=0.1,
        posterior="kronecker",
    )
    layer.build((None, 3, 2))
    assert layer.posterior.rows == 2 * (2 + 2 + 1)
    two = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    layer = uq.Variational(two, kl_weight=0.1, posterior="kronecker")
    with pytest.raises(ValueError, match="must have weights with the same last axis"):
        layer.build((None, 4))
