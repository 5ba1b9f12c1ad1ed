"""What a mixture answers, for every family by discovery."""

import contextlib

import keras
import numpy as np
import pytest
from scipy import integrate

import keras_uq_layers as uq
from keras_uq_layers import families
from keras_uq_layers.prediction import mixture

BY_ARGUMENT = {
    "Interval": lambda: families.Interval("normal"),
    "NormalMixture": lambda: families.NormalMixture(2),
    "Quantiles": lambda: families.Quantiles([0.1, 0.5, 0.9]),
    "ZeroInflated": lambda: families.ZeroInflated("poisson"),
    "Hurdle": lambda: families.Hurdle("poisson"),
}
NAMES = sorted(
    name
    for name in families.__all__
    if isinstance(getattr(families, name), type) and name != "Family"
)
PASSES, ROWS = 4, 6


def family_of(name):
    return BY_ARGUMENT.get(name, getattr(families, name))()


def prediction_of(name, passes=PASSES, rows=ROWS):
    """Params that a head could emit, with two outputs."""
    family = family_of(name)
    features = np.random.default_rng(1).normal(
        size=(passes, rows, family.params_size(2))
    )
    samples = keras.ops.convert_to_numpy(family.constrain(features))
    kind = uq.Prediction
    if isinstance(family, families.Bernoulli | families.Categorical):
        kind = uq.ClassPrediction
    return kind(samples, family)


def answers(prediction, names):
    """Which attributes there are; for others the error names the family."""
    found = set()
    for name in names:
        try:
            getattr(prediction, name)
            found.add(name)
        except NotImplementedError as error:
            said = str(error)
            assert prediction.family.name in said.lower()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_shown_and_sliced(name):
    pytest.importorskip("pandas")
    prediction = prediction_of(name)
    table = prediction.to_dataframe()
    assert len(table) == ROWS
    names = ("mean", "variance", "std", "aleatoric_std", "epistemic_std", "median")
    has = answers(prediction, names)
    assert has >= {"median"} if name == "Quantiles" else has >= {"mean", "std"}
    text = repr(prediction)
    assert f"{ROWS} example(s) from {PASSES} pass(es)" in text
    for column in prediction._columns():
        assert f"{column} " in text
    mask = np.arange(ROWS) % 2 == 0
    for rows, count in ((slice(2), 2), (mask, 3), (-1, 1), ([0, 3], 2)):
        part = prediction[rows]
        assert type(part) is type(prediction)
        assert len(part) == count
        for column, values in part._columns().items():
            whole = getattr(prediction, column)[rows].reshape(values.shape)
            np.testing.assert_allclose(values, whole, rtol=1e-6)
    assert len(list(prediction)) == ROWS
    with pytest.raises(IndexError, match="Row 6"):
        prediction[ROWS]


def test_the_sum_of_the_parts_and_the_middle():
    prediction = prediction_of("Gamma")
    np.testing.assert_allclose(
        prediction.variance,
        prediction.aleatoric_std**2 + prediction.epistemic_std**2,
        rtol=1e-12,
    )
    np.testing.assert_array_equal(prediction.median, prediction.quantile(0.5))


CONTINUOUS = [
    name
    for name in NAMES
    if name not in ("Bernoulli", "Categorical", "Quantiles", "Point")
    and not family_of(name).discrete
]
COUNTS = [name for name in NAMES if family_of(name).discrete]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_crps_is_the_integral_of_the_squared_difference(name):
    """By SciPy's adaptive quadrature of the distribution function."""
    prediction = prediction_of(name, rows=3)
    y = prediction.quantile([0.02, 0.6])[[1, 0, 1], np.arange(3)]
    found = prediction.crps(y)
    family, parts = mixture.single_outputs(
        prediction.family, prediction.samples.astype("float64")
    )
    for row in range(3):
        for d in range(2):
            one = [part[:, 2 * row + d] for part in parts]

            def cdf(z, one=one):
                return family.array_cdf(np.float64(z), *one).mean()

            at = y[row, d]
            below, above = max(at - 400.0, family.lower), min(at + 400.0, family.upper)
            total = sum(
                integrate.quad(function, start, end, limit=500, points=[middle])[0]
                for function, start, end, middle in (
                    (lambda z: cdf(z) ** 2, below, at, max(at - 1.0, below)),
                    (lambda z: (1 - cdf(z)) ** 2, at, above, min(at + 1.0, above)),
                )
            )
            std = prediction.std[row, d]
            np.testing.assert_allclose(found[row, d], total, rtol=1e-3, atol=2e-4 * std)


@contextlib.contextmanager
def counted(family):
    """How many values of the distribution function are asked for in each call."""
    kind = type(getattr(family, "base", family))
    kind = kind if family.independent else families.Normal
    cdf, calls = kind.array_cdf, []

    def counting(self, y, *parts):
        calls.append(np.size(y))
        return cdf(self, y, *parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "array_cdf", counting)
        yield calls


@pytest.mark.parametrize("name", [*CONTINUOUS, *COUNTS])
def test_the_crps_of_one_pass_is_that_of_the_family(name):
    """Of params as an untrained head emits them, and wilder ones."""
    family = family_of(name)
    if name in ("MultivariateNormal", "NegativeBinomial"):
        pytest.skip("has no CRPS in closed form")
    rng = np.random.default_rng(0)
    features = 2.0 * rng.normal(size=(1, 200, family.params_size(1)))
    samples = keras.ops.convert_to_numpy(family.constrain(features))
    prediction = uq.Prediction(samples, family)
    y = prediction.quantile(0.3) * np.exp(0.2 * rng.normal(size=(200, 1)))
    y = np.floor(y) if family.discrete else np.minimum(y, family.upper)
    expected = mixture.evaluate(family.crps, y, samples[0].astype("float64"))
    with counted(family) as calls:
        found = prediction.crps(y)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6 * abs(y).max())
    assert sum(calls) <= 200 * 200  # evaluations of the distribution function


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", COUNTS)
def test_the_crps_of_counts_is_a_sum(name, scale):
    prediction = prediction_of(name)
    samples = prediction.samples * np.array(
        [scale, scale] if name == "Poisson" else [scale, scale, 1.0, 1.0]
    )
    prediction = uq.Prediction(samples, prediction.family)
    y = np.floor(prediction.quantile(0.7)) + np.arange(ROWS)[:, None] - 2.0
    family, parts = mixture.single_outputs(prediction.family, samples)
    counts = np.arange(5000.0)
    cdf = np.stack([family.array_cdf(k, *parts).mean(axis=0) for k in counts], axis=-1)
    cdf = cdf.reshape(ROWS, 2, -1)
    assert cdf.min(axis=(0, 1))[-1] > 1.0 - 1e-9
    total = ((cdf - (counts >= y[..., None])) ** 2).sum(axis=-1)
    total += np.maximum(-y, 0.0)
    np.testing.assert_allclose(prediction.crps(y), total, rtol=1e-3)


@pytest.mark.parametrize("name", [*CONTINUOUS, *COUNTS, "Quantiles"])
def test_the_interval_holds_its_share(name):
    """And needs few evaluations of the distribution function, all rows at once."""
    prediction = prediction_of(name)
    level = 0.6 if name == "Quantiles" else 0.8  # inside of what is known
    tails = 0.5 - 0.5 * level, 0.5 + 0.5 * level
    with counted(prediction.family) as calls:
        lower, upper = prediction.interval(level)
    assert sum(calls) <= 16 * 2 * 2 * ROWS  # 16 for each level of each output
    assert len(calls) <= 60
    if name in COUNTS:
        for end, q in zip((lower, upper), tails, strict=True):
            assert (prediction.cdf(end) >= q - 1e-9).all()
            below = np.where(end > 0, prediction.cdf(np.maximum(end - 1, 0)), 0.0)
            assert (below < q).all()
    else:
        inside = lower > prediction.family.lower  # no probability of its own
        for end, q in zip((lower, upper), tails, strict=True):
            reached = prediction.cdf(end)
            np.testing.assert_allclose(reached[inside], q, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("Quantiles",)])
def test_draws_have_the_moments(name):
    prediction = prediction_of(name, rows=2)
    draws = prediction.sample(4000, seed=3)
    assert draws.shape == (4000, 2, 2)
    np.testing.assert_array_equal(draws, prediction.sample(4000, seed=3))
    assert np.abs(draws - prediction.sample(4000, seed=4)).max() > 0
    error = draws.std(axis=0) / np.sqrt(4000)
    assert (np.abs(draws.mean(axis=0) - prediction.mean) < 5 * error).all()


def test_draws_take_one_pass_for_all_outputs():
    loc = np.array([[[-9.0, -9.0, 0.1, 0.1]], [[9.0, 9.0, 0.1, 0.1]]])
    draws = uq.Prediction(loc, "normal").sample(50, seed=0)[:, 0]
    assert (np.sign(draws[:, 0]) == np.sign(draws[:, 1])).all()
    assert np.unique(np.sign(draws)).size == 2


def test_what_quantiles_do_not_know():
    prediction = prediction_of("Quantiles")
    with pytest.raises(NotImplementedError, match=r"has no mean\. Use `median`"):
        _ = prediction.mean
    for call in (
        lambda: prediction.sample(3),
        lambda: prediction.log_prob(np.ones((6, 2))),
    ):
        with pytest.raises(NotImplementedError, match="'quantiles' has no"):
            call()
    lower, upper = prediction.interval(0.8)
    assert (lower < prediction.median).all()
    assert (prediction.median < upper).all()
    assert list(prediction.to_dataframe(0.8).columns)[:2] == ["median_0", "median_1"]


def test_a_mean_without_a_variance(monkeypatch):
    """Student's t with 1 < df <= 2."""
    prediction = uq.Prediction(np.ones((2, 3, 2)), families.StudentT(df=1.5))
    np.testing.assert_allclose(prediction.mean, 1.0)
    with monkeypatch.context() as patch:  # a slow search, bit by bit
        patch.delattr(families.StudentT, "quantile")
        patch.delattr(families.Family, "quantile")
        np.testing.assert_allclose(prediction.quantile(0.5), 1.0)
    assert list(prediction._columns()) == ["mean"]
    with pytest.raises(NotImplementedError, match="'student_t' has no variance"):
        _ = prediction.std


def test_components_far_apart_and_narrow():
    """A distribution function of steps."""
    samples = np.stack([np.arange(20.0) ** 2, np.full(20, 0.01)], axis=-1)[:, None]
    prediction = uq.Prediction(samples, "normal")
    median = prediction.quantile(0.525)
    np.testing.assert_allclose(median, 100.0, atol=0.1)
    loc, y = samples[:, 0, 0], 80.0
    expected = np.abs(loc - y).mean() - 0.5 * np.abs(loc[:, None] - loc).mean()
    np.testing.assert_allclose(prediction.crps([y]), expected, rtol=2e-3)
