"""The joint density, covariance and draws of correlated outputs."""

import numpy as np
import scipy.stats as st
from backend import to_numpy
from backend import value_and_gradients

import keras_uq_layers as uq

F = uq.families


def test_multivariate_normal_oracles():
    family = F.MultivariateNormal()
    rng = np.random.default_rng(2)
    features = rng.normal(size=(4, family.params_size(3))).astype("float32")
    params = to_numpy(family.constrain(features))
    factor = to_numpy(family.cholesky(params))
    assert (np.triu(factor, 1) == 0).all()
    y = rng.normal(size=(4, 3)).astype("float32")
    expected = [
        st.multivariate_normal.logpdf(y[i], params[i, :3], factor[i] @ factor[i].T)
        for i in range(4)
    ]
    got = to_numpy(family.log_prob(y, params))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    twin = uq.to_tfp(params, family)
    np.testing.assert_allclose(np.asarray(twin.log_prob(y)), got, rtol=1e-4)
    np.testing.assert_allclose(
        np.asarray(twin.covariance()), factor @ factor.swapaxes(1, 2), rtol=1e-4
    )
    draws = to_numpy(family.sample(params[:1], (20000,), seed=1))[:, 0]
    cov = factor[0] @ factor[0].T
    error = 5 * np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 20000)
    assert (np.abs(np.cov(draws.T) - cov) < error).all()
    # An overflowing row neither is NaN nor disturbs the others.
    params[0, 3:] = 3e38
    params[0, 3] = 1e-30
    value, (gradient,) = value_and_gradients(lambda p: family.log_prob(y, p), params)
    assert not np.isnan(value).any()
    assert not np.isnan(gradient).any()
    np.testing.assert_allclose(value[1:], got[1:], rtol=1e-6)
