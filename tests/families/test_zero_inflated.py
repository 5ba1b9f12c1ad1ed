"""Counts with zeros of their own: sums over the counts, limits, bad input."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from backend import needs_float64
from backend import to_numpy
from backend import value_and_gradients

from keras_uq_layers import families as F

COUNTS = np.arange(400.0)
BASES = {
    "poisson": np.array([[0.3], [2.0], [11.0]]),
    "negative_binomial": np.array([[0.3, 2.0], [2.0, 0.7], [11.0, 30.0]]),
}
LOGITS = np.array([-2.0, 0.4, 3.0])
FAMILIES = [kind(base) for kind in (F.ZeroInflated, F.Hurdle) for base in BASES]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=repr)


def params_of(family):
    return np.concatenate([BASES[family.base.name], LOGITS[:, None]], axis=-1)


def mass_of(family):
    """Probabilities of all counts by SciPy, `(3, counts)`."""
    base = BASES[family.base.name]
    if family.base.name == "poisson":
        mass = scipy.stats.poisson.pmf(COUNTS, base)
    else:
        mean, total = base.T[..., None]
        mass = scipy.stats.nbinom.pmf(COUNTS, total, total / (total + mean))
    zeros = scipy.special.expit(LOGITS)[:, None]
    if isinstance(family, F.Hurdle):
        mass = np.where(COUNTS == 0, 0.0, mass / (1.0 - mass[:, :1]))
    return zeros * (COUNTS == 0) + (1.0 - zeros) * mass


@needs_float64
@each_family
def test_against_sums_over_scipy(family):
    mass, params = mass_of(family), params_of(family)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-12)
    few = COUNTS[:40]
    rows, y = np.repeat(params, 40, axis=0), np.tile(few, 3)[:, None]
    log_prob = to_numpy(family.log_prob(y, rows)).reshape(3, 40)
    np.testing.assert_allclose(log_prob, np.log(mass[:, :40]), rtol=1e-9)
    below = np.cumsum(mass, axis=1)
    cdf = to_numpy(family.cdf(y, rows)).reshape(3, 40)
    np.testing.assert_allclose(cdf, below[:, :40], rtol=1e-9)
    mean = mass @ COUNTS
    variance = mass @ COUNTS**2 - mean**2
    np.testing.assert_allclose(to_numpy(family.mean(params))[:, 0], mean, 1e-10)
    np.testing.assert_allclose(to_numpy(family.variance(params))[:, 0], variance, 1e-9)
    for p in (0.05, 0.5, 0.93):
        smallest = (below < p).sum(axis=1)
        quantile = to_numpy(family.quantile(p, params))[:, 0]
        np.testing.assert_array_equal(quantile, smallest)
    parts = params.T[:, :, None]
    np.testing.assert_allclose(family.array_cdf(few, *parts), below[:, :40], 1e-9)
    half = family.array_cdf(np.array([-1.0, -0.5]), *parts)
    np.testing.assert_allclose(half[:, 0], 0.0, atol=1e-12)
    assert (half[:, 1] > 0).all()
    assert (half[:, 1] < mass[:, 0]).all()
    for count in (0, 1, 7):
        ratio = family.array_ratio(float(count), *params.T)
        np.testing.assert_allclose(ratio, mass[:, count + 1] / mass[:, count], 1e-9)


@needs_float64
@each_family
def test_intervals_against_sums_over_scipy(family):
    mass, params = mass_of(family), params_of(family)
    for first, last in ((0, 0), (0, 3), (1, 1), (1, np.inf), (2, 5), (0, np.inf)):
        lower, upper = (np.full((3, 1), float(end)) for end in (first, last))
        log_prob = to_numpy(family.log_interval_prob(lower, upper, params))[:, 0]
        inside = (first <= COUNTS) & (last >= COUNTS)
        expected = np.log(mass[:, inside].sum(axis=1))
        np.testing.assert_allclose(log_prob, expected, rtol=1e-8, atol=1e-9)


@each_family
def test_a_missing_count_has_no_gradient(family):
    params = params_of(family).astype("float32")
    line = np.full((3, 1), np.inf, "float32")
    value, (gradient,) = value_and_gradients(
        lambda p: family.log_interval_prob(-line, line, p), params
    )
    assert (value == 0).all()
    assert (gradient == 0).all()


@pytest.mark.parametrize("family", [F.ZeroInflated("poisson"), F.Hurdle("poisson")])
def test_the_crps_is_a_sum(family):
    params = params_of(family).astype("float32")
    below = np.cumsum(mass_of(family), axis=1)
    for y in (-2.0, 0.0, 3.0, 20.0):
        expected = ((below - (y <= COUNTS)) ** 2).sum(axis=1) + max(-y, 0.0)
        got = to_numpy(family.crps(np.full((3, 1), y, "float32"), params))[:, 0]
        np.testing.assert_allclose(got, expected, rtol=2e-5)


@each_family
def test_without_zeros_of_their_own_it_is_the_base(family):
    base = BASES[family.base.name].astype("float32")
    y = np.array([[0.0], [1.0], [14.0]], "float32")
    none = to_numpy(family.base.log_prob(np.zeros_like(y), base))
    logit = np.full((3, 1), -60.0)
    if isinstance(family, F.Hurdle):  # as many zeros as the base has
        logit = (none - np.log(-np.expm1(none)))[:, None]
    params = np.concatenate([base, logit], axis=-1).astype("float32")
    methods = ["log_prob", "cdf"]
    if family.base.name == "poisson":
        methods.append("crps")
    for method in methods:
        np.testing.assert_allclose(
            to_numpy(getattr(family, method)(y, params)),
            to_numpy(getattr(family.base, method)(y, base)),
            rtol=2e-5,
            atol=1e-6,
            err_msg=method,
        )


@each_family
def test_a_hurdle_has_one_cause_of_a_zero(family):
    """The other parameters of a hurdle learn from the positive counts alone."""
    params = params_of(family).astype("float32")
    zeros = np.zeros((3, 1), "float32")
    _, (_, gradient) = value_and_gradients(family.log_prob, zeros, params)
    learns = bool(np.abs(gradient[:, :-1]).max() > 0)
    assert learns == isinstance(family, F.ZeroInflated)


def test_rare_counts_behind_a_hurdle():
    """Where the base family has hardly any positive counts, the first is sure."""
    params = np.array([[1e-30, 0.0]], "float32")
    family = F.Hurdle("poisson")
    value = float(to_numpy(family.log_prob(np.array([[1.0]]), params))[0])
    assert abs(value - np.log(0.5)) < 1e-4
    np.testing.assert_allclose(to_numpy(family.mean(params)), 0.5, rtol=1e-6)
    # In float32, 1 - p(0) of this rate has one digit.
    params = np.array([[1e-6, -20.0]], "float32")
    until_one = to_numpy(family.cdf(np.array([[1.0]], "float32"), params))
    np.testing.assert_allclose(until_one, 1.0, rtol=2e-6)


@pytest.mark.parametrize("kind", [F.ZeroInflated, F.Hurdle])
@pytest.mark.parametrize("base", ["normal", "bernoulli", F.ZeroInflated("poisson")])
def test_other_bases_are_refused(kind, base):
    with pytest.raises(ValueError, match="`base` must be a family of counts: 'poi"):
        kind(base)
