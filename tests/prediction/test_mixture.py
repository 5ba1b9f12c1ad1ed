"""`Prediction`: the mixture over passes against its definition."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats
from small_models import normal_mixture

import keras_uq_layers as uq

JAX = keras.backend.backend() == "jax"
EXACT = 1e-4 if JAX else 1e-9  # JAX has no float64 unless told so


def test_variance_is_split_by_its_definition():
    prediction = normal_mixture()
    loc, scale = prediction.samples[..., :1], prediction.samples[..., 1:]
    np.testing.assert_allclose(prediction.mean, loc.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(
        prediction.aleatoric_std**2, (scale**2).mean(axis=0), rtol=EXACT
    )
    np.testing.assert_allclose(
        prediction.epistemic_std**2, loc.var(axis=0), rtol=10 * EXACT
    )
    # E[Y^2] - E[Y]^2, the variance of the mixture without the law.
    second = (loc**2 + scale**2).mean(axis=0)
    np.testing.assert_allclose(
        prediction.std**2, second - loc.mean(axis=0) ** 2, rtol=100 * EXACT
    )


def test_an_array_is_copied_unless_the_caller_gives_it_away():
    params = np.ones((2, 3, 2))
    copied, kept = (
        uq.Prediction(params, "normal", copy=copy) for copy in (True, False)
    )
    assert kept.samples is params
    params[..., 0] = 7.0
    assert (copied.mean == 1.0).all()


def test_moments_and_quantiles_against_brute_force():
    prediction = normal_mixture(passes=10, rows=3, spread=3.0)
    rng = np.random.default_rng(7)
    n = 200_000
    loc, scale = prediction.samples[..., :1], prediction.samples[..., 1:]
    draws = rng.normal(loc, scale, size=(n, *loc.shape)).reshape(-1, 3, 1)
    total = len(draws)
    error = prediction.std / np.sqrt(total)
    assert (np.abs(draws.mean(axis=0) - prediction.mean) < 5 * error).all()
    for q in (0.01, 0.3, 0.5, 0.95):
        found = prediction.quantile(q)
        share = (draws <= found).mean(axis=0)
        # Draws are stratified by component, so the binomial error is a bound.
        np.testing.assert_allclose(share, q, atol=5 * np.sqrt(q * (1 - q) / total))
    # A normal with the same moments would be far off: the mixture has modes.
    matched = prediction.mean + prediction.std * stats.norm.ppf(0.95)
    assert np.abs(matched - prediction.quantile(0.95)).max() > 0.1


@given(
    seed=st.integers(0, 10_000),
    q=st.floats(1e-6, 1 - 1e-6),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_quantile_inverts_the_cdf(seed, q, spread):
    prediction = normal_mixture(passes=4, rows=2, seed=seed, spread=spread)
    value = prediction.quantile(q)
    np.testing.assert_allclose(prediction.cdf(value), q, rtol=0, atol=1e3 * EXACT)


def test_quantile_against_scipy_to_the_last_digits():
    from scipy.optimize import brentq

    prediction = normal_mixture(passes=7, rows=4, spread=2.0)
    loc, scale = prediction.samples[:, :, 0], prediction.samples[:, :, 1]
    for q in (0.001, 0.25, 0.9):
        expected = [
            brentq(
                lambda y, i=i, q=q: (
                    stats.norm.cdf(y, loc[:, i], scale[:, i]).mean() - q
                ),
                -50,
                50,
                xtol=1e-13,
            )
            for i in range(4)
        ]
        np.testing.assert_allclose(
            prediction.quantile(q)[:, 0], expected, rtol=EXACT, atol=EXACT
        )


def test_one_pass_is_the_distribution_itself():
    params = np.array([[[1.0, -1.0, 2.0, 0.5]]])  # two outputs
    prediction = uq.Prediction(params, "normal")
    lower, upper = prediction.interval(0.9)
    np.testing.assert_allclose(
        [lower[0], upper[0]],
        stats.norm.ppf([[0.05], [0.95]], [1.0, -1.0], [2.0, 0.5]),
        rtol=1e-5,
    )
    assert (prediction.epistemic_std == 0).all()


def test_quantiles_of_a_sequence_and_of_time_series():
    samples = np.abs(np.random.default_rng(0).normal(size=(6, 4, 3, 4))) + 0.1
    prediction = uq.Prediction(samples, "normal")
    both = prediction.quantile([0.2, 0.8])
    assert both.shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(both[1], prediction.quantile(0.8))
    assert (both[0] < both[1]).all()
    assert prediction.log_prob(np.ones((4, 3, 2))).shape == (4, 3)


def test_quantile_of_a_jump():
    """A mixture of Bernoulli is one: the quantile is 0 or 1."""
    logits = np.array([[[-3.0]], [[0.0]], [[2.0]]])
    prediction = uq.ClassPrediction(logits, "bernoulli")
    p = prediction.mean[0, 0]
    np.testing.assert_allclose(prediction.quantile(1 - p - 0.01), 0.0, atol=1e-9)
    np.testing.assert_allclose(prediction.quantile(1 - p + 0.01), 1.0, atol=1e-9)


def test_log_prob_is_that_of_the_mixture_jointly_over_outputs():
    rng = np.random.default_rng(0)
    samples = np.concatenate(
        [rng.normal(size=(9, 5, 2)), rng.uniform(0.5, 2, size=(9, 5, 2))], axis=-1
    )
    y = rng.normal(size=(5, 2))
    loc, scale = samples[..., :2], samples[..., 2:]
    joint = stats.norm.pdf(y, loc, scale).prod(axis=-1)
    np.testing.assert_allclose(
        uq.Prediction(samples, "normal").log_prob(y),
        np.log(joint.mean(axis=0)),
        rtol=1e-4,
    )


def test_log_prob_of_a_far_point_does_not_underflow():
    far = normal_mixture(rows=1).log_prob(np.array([1e3]))
    assert np.isfinite(far).all()
    assert (far < -1e5).all()


@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.0, 0.3, 10.0]),
    y=st.floats(-30, 30),
)
def test_crps_is_the_integral_of_the_squared_difference(seed, spread, y):
    prediction = normal_mixture(passes=4, rows=2, seed=seed, spread=spread)
    loc, scale = prediction.samples[:, 0, 0], prediction.samples[:, 0, 1]
    # Every scale is 0.2 at the least: the trapezoids are exact to 1e-7.
    lower, upper = min(y, loc.min() - 12), max(y, loc.max() + 12)
    total = 0.0
    for start, end, reached in [(lower, y, 0.0), (y, upper, 1.0)]:
        grid = np.linspace(start, end, 20_001)
        cdf = stats.norm.cdf(grid, loc[:, None], scale[:, None]).mean(axis=0)
        total += np.trapezoid((cdf - reached) ** 2, grid)
    np.testing.assert_allclose(
        prediction.crps([y, y])[0, 0],
        total,
        rtol=1e-3,
        atol=1e-5 * prediction.std[0, 0],
    )


def test_crps_of_a_target_that_is_missing_infinite_or_far_away():
    """Neither searches on forever, nor takes the other rows along."""
    params = {"normal": [0.0, 1.0], "poisson": [3.0], "negative_binomial": [3.0, 2.0]}
    y = np.array([1.0, np.nan, np.inf, 1e9])
    for family, row in params.items():
        found = uq.Prediction(np.tile(row, (2, 4, 1)), family).crps(y)[:, 0]
        alone = uq.Prediction(np.tile(row, (2, 1, 1)), family).crps(y[:1])[0, 0]
        np.testing.assert_allclose(found[0], alone, rtol=1e-6)
        np.testing.assert_array_equal(found[1:3], [np.nan, np.inf])
        np.testing.assert_allclose(found[3], 1e9, rtol=1e-7)


@pytest.mark.parametrize("df", [1.99, 1.3, 1.0, 0.75, 0.5])
def test_crps_without_a_variance_or_a_mean(df):
    """The tails of Student's t still have squares that can be integrated."""
    samples = np.array([[[0.0, 1.0]], [[3.0, 0.2]]])
    both = np.concatenate([samples, np.full((2, 1, 1), df)], axis=-1)
    loc, scale = samples[..., 0], samples[..., 1]
    for y in (-4.0, 0.4, 1e4):
        # On both sides of y, in the inverse hyperbolic sine of the distance.
        t = np.linspace(0.0, np.arcsinh(1e60), 40_001)
        below = special.stdtr(df, (y - np.sinh(t) - loc) / scale).mean(axis=0)
        above = special.stdtr(df, (loc - y - np.sinh(t)) / scale).mean(axis=0)
        expected = np.trapezoid((below**2 + above**2) * np.cosh(t), t)
        expected = expected if df > 0.5 else np.inf
        fixed = uq.Prediction(samples, uq.families.StudentT(df)).crps([y])
        learned = uq.Prediction(both, "student_t").crps([y])
        np.testing.assert_allclose([fixed, learned], expected, rtol=1e-3)


def test_crps_of_quantiles_knows_nothing_beyond_them():
    """What is left lies at the outermost quantiles of the mixture."""
    family = uq.families.Quantiles([0.1, 0.5, 0.8])
    samples = np.array([[[-1.0, 0.0, 2.0]], [[-0.5, 0.5, 0.6]]])
    prediction = uq.Prediction(samples, family)
    knots = np.unique(samples)
    heights = prediction[[0] * len(knots)].cdf(knots)[:, 0]
    np.testing.assert_allclose(heights[[0, -1]], [0.1, 0.8])
    for y in (-3.0, -0.7, 0.3, 1.0, 2.5):
        edges = np.unique([*knots, np.clip(y, -1.0, 2.0)])
        height = np.interp(edges, knots, heights)
        total = max(-1.0 - y, 0.0) + max(y - 2.0, 0.0)
        for i in range(len(edges) - 1):  # the square of a line
            a, b = height[i : i + 2] - (edges[i] >= y)
            total += (edges[i + 1] - edges[i]) * (a * a + a * b + b * b) / 3.0
        np.testing.assert_allclose(prediction.crps([y]), total, rtol=1e-3)
    point = uq.Prediction(np.full((2, 1, 3), 4.0), family)
    np.testing.assert_allclose(point.crps([1.0]), 3.0)


def test_crps_where_the_standard_deviation_says_little():
    """A log-normal with a wide scale has its mass in a millionth of it."""
    loc, scale = np.array([0.0, 1.0, -1.0]), np.array([1.0, 3.0, 6.0])
    params = np.stack([loc, scale], axis=-1)
    y = np.exp(loc)[:, None]
    expected = uq.families.LogNormal().crps(y, params)
    for passes in (1, 3):
        samples = np.tile(params, (passes, 1, 1))
        found = uq.Prediction(samples, "log_normal").crps(y)
        np.testing.assert_allclose(found, to_numpy(expected), rtol=2e-3)


def test_crps_of_all_mass_at_a_bound():
    samples = np.tile([-40.0, 1.0], (3, 2, 1))
    found = uq.Prediction(samples, uq.families.CensoredNormal(0.0)).crps([0.0, 2.0])
    np.testing.assert_allclose(found[:, 0], [0.0, 2.0], atol=1e-12)


def test_moments_of_quantiles_say_that_there_are_none():
    quantiles = keras.Sequential(
        [keras.Input((2,)), uq.DistributionHead(1, uq.families.Quantiles([0.1, 0.9]))]
    )
    with pytest.raises(NotImplementedError, match=r"^The family 'quantiles' has no"):
        uq.predict(quantiles, np.ones((3, 2)), keep_samples=False, verbose=0)


def test_no_rows_have_no_quantiles():
    prediction = normal_mixture(rows=3)[:0]
    assert prediction.interval(0.9)[0].shape == (0, 1)
    assert prediction.mean.shape == (0, 1)


def test_crps_in_slices_is_the_same(monkeypatch):
    samples = np.abs(np.random.default_rng(0).normal(size=(6, 40, 3, 4))) + 0.1
    y = np.ones((40, 3, 2))
    whole = uq.Prediction(samples, "normal").crps(y)
    assert whole.shape == y.shape
    monkeypatch.setattr("keras_uq_layers.prediction.mixture._CHUNK", 200)
    np.testing.assert_allclose(
        uq.Prediction(samples, "normal").crps(y), whole, rtol=1e-6
    )


def test_classes_split_entropy():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(11, 6, 4))
    prediction = uq.ClassPrediction(logits, "categorical")
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    total = stats.entropy(p.mean(axis=0), axis=-1)
    expected = stats.entropy(p, axis=-1).mean(axis=0)
    np.testing.assert_allclose(prediction.mean, p.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(prediction.entropy, total, rtol=1e-5)
    np.testing.assert_allclose(prediction.expected_entropy, expected, rtol=1e-5)
    np.testing.assert_allclose(
        prediction.mutual_information, total - expected, rtol=1e-4, atol=1e-6
    )
    labels = rng.integers(0, 4, 6)
    np.testing.assert_allclose(
        prediction.log_prob(labels), np.log(p.mean(axis=0)[np.arange(6), labels]), 1e-5
    )
    assert prediction.log_prob(np.full(6, 4)).max() == -np.inf


def test_agreeing_passes_have_no_mutual_information():
    logits = np.repeat(np.random.default_rng(0).normal(size=(1, 50, 3)), 5, axis=0)
    for family in ("categorical", "bernoulli"):
        prediction = uq.ClassPrediction(logits, family)
        assert (prediction.mutual_information >= 0).all()
        assert prediction.mutual_information.max() < 1e-6
