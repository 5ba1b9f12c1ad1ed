"""The pinball score of quantiles, and that they never cross."""

import numpy as np
import scipy.stats as st
from backend import to_numpy
from backend import value_and_gradients

import keras_uq_layers as uq

F = uq.families


def test_pinball_is_proper_and_agrees_with_the_crps():
    levels = np.linspace(0.005, 0.995, 100)
    family = F.Quantiles(levels)
    params = st.norm.ppf(levels)[None].astype("float32")
    y = np.array([[0.7]], "float32")
    crps = float(to_numpy(F.Normal().crps(y, np.array([[0.0, 1.0]], "float32")))[0, 0])
    assert abs(2 * float(to_numpy(family.pinball(y, params))[0, 0]) - crps) < 2e-3
    draws = np.random.default_rng(6).normal(size=(5000, 1))
    few = F.Quantiles([0.1, 0.5, 0.9])
    right = np.repeat(st.norm.ppf([[0.1, 0.5, 0.9]]), 5000, axis=0)
    for shift in ([0.2, 0, 0], [0, 0.2, 0], [0, 0, -0.2]):
        gain = to_numpy(few.pinball(draws, right + shift) - few.pinball(draws, right))
        assert gain.mean() > 2 * gain.std() / np.sqrt(5000)


def test_equal_quantiles_are_a_jump():
    """As of a count, or of quantiles that half precision rounds to one number."""
    family = F.Quantiles([0.1, 0.5, 0.9])
    params = np.array([[1.0, 1.0, 3.0]] * 4, "float32")
    y = np.array([[0.9], [1.0], [2.0], [4.0]], "float32")
    value, (gradient,) = value_and_gradients(lambda p: family.cdf(y, p), params)
    np.testing.assert_allclose(value[:, 0], [0.1, 0.5, 0.7, 0.9], rtol=1e-6)
    np.testing.assert_allclose(value, family.array_cdf(y, *params.T[:, :, None]))
    assert np.isfinite(gradient).all()


def test_pinball_loss_and_metric_survive_saving():
    for make in (uq.losses.Pinball, uq.metrics.Pinball):
        again = make.from_config(make([0.1, 0.9]).get_config())
        assert again.levels == (0.1, 0.9)
    head = uq.DistributionHead(2, F.Quantiles([0.1, 0.5, 0.9]))
    params = to_numpy(head(np.random.default_rng(0).normal(size=(9, 3)) * 100))
    q = params.reshape(9, 3, 2)
    assert (np.diff(q, axis=1) > 0).all()
