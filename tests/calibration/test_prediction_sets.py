"""Sets of classes keep their guarantee, under a wrong model too."""

import numpy as np
import pytest
from scipy import stats

import keras_uq_layers as uq
from keras_uq_layers.calibration import AdaptivePredictionSets
from keras_uq_layers.calibration import LeastAmbiguousSets


def labels(rng, p):
    drawn = (rng.uniform(size=(len(p), 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    return np.minimum(drawn, p.shape[1] - 1)


def even(rows, classes=2):
    return uq.ClassPrediction(np.zeros((1, rows, classes)), "categorical")


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("randomized", [True, False])
def test_coverage_is_at_least_the_level(count, randomized):
    rng = np.random.default_rng(count)
    level, rounds, new, shares, sizes = 0.9, 60, 600, [], []
    for _ in range(rounds):
        logits = 1.5 * rng.normal(size=(count + new, 5))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        y = labels(rng, p)
        # Far too sure, and two classes mixed up.
        sure = 4 * logits[None, :, [1, 0, 2, 3, 4]]
        calibration, test = (
            uq.ClassPrediction(part, "categorical")
            for part in (sure[:, :count], sure[:, count:])
        )
        calibrator = AdaptivePredictionSets(
            level, randomized=randomized, seed=int(rng.integers(1e9))
        )
        sets = calibrator.fit(calibration, y[:count]).sets(test)
        shares.append(sets[np.arange(new), y[count:]].mean())
        sizes.append(sets.sum(axis=1).mean())
    error = 4 * np.std(shares) / np.sqrt(rounds)
    assert np.mean(shares) > level - error
    if randomized:
        assert np.mean(shares) < level + 1 / (count + 1) + error
        assert np.mean(sizes) < 4.5


RESAMPLES, COUNT, LEVEL = 1000, 199, 0.9
CLASSES = 4


def hard_world(rows):
    """A model that is too sure of all, and knows least about the last class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    logits = 2.0 * np.eye(CLASSES)[y] * (y < CLASSES - 1)[:, None]
    logits = 2.0 * (logits + rng.normal(size=(rows, CLASSES)))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p, y, np.where(p[:, 0] > 0.5, "a", "b")


def covered(calibrator, p, y, by=None):
    """How often one new row of each class is covered, `(CLASSES,)`."""
    rng = np.random.default_rng(1)
    count = np.zeros(CLASSES)
    for _ in range(RESAMPLES):
        rows = rng.permutation(len(y))
        some, others = rows[:COUNT], rows[COUNT:]
        new = np.array([others[y[others] == k][0] for k in range(CLASSES)])
        calibrator.seed = int(rng.integers(1e9))
        groups = by[some] if isinstance(by, np.ndarray) else by
        calibrator.fit(p[some], y[some], groups)
        given = by[new] if isinstance(by, np.ndarray) else None
        count += calibrator.sets(p[new], given)[np.arange(CLASSES), y[new]]
    return count


# The exact binomial bound of a count of `RESAMPLES`.
LEAST = stats.binom.ppf(1e-6, RESAMPLES, LEVEL)


@pytest.mark.parametrize(
    "calibrator",
    [
        AdaptivePredictionSets(LEVEL, penalty=0.05, unpenalized=2),
        LeastAmbiguousSets(LEVEL),
    ],
    ids=["regularized", "least ambiguous"],
)
def test_coverage_within_each_class_needs_groups(calibrator):
    p, y, _ = hard_world(4000)
    marginal = covered(calibrator, p, y)
    # Right on average, and not for the last class.
    low, high = stats.binom.interval(1 - 1e-6, RESAMPLES * CLASSES, LEVEL)
    # A row of each class in each resample: they share a calibration set.
    slack = 3 * np.sqrt(RESAMPLES * CLASSES * LEVEL * (1 - LEVEL))
    assert low - slack <= marginal.sum() <= high + slack
    assert marginal[-1] < LEAST
    by_class = covered(calibrator, p, y, "classes")
    assert (by_class >= LEAST).all()
    fewest = COUNT / CLASSES - 25
    most = stats.binom.ppf(1 - 1e-6, RESAMPLES, LEVEL + 1 / fewest)
    assert (by_class <= most).all()


def test_coverage_within_given_groups():
    p, y, groups = hard_world(4000)
    calibrator = LeastAmbiguousSets(LEVEL).fit(p, y, groups)
    assert calibrator.groups == ["a", "b"]
    for i, name in enumerate("ab"):
        part = groups == name
        alone = LeastAmbiguousSets(LEVEL).fit(p[part], y[part])
        assert calibrator.threshold[i] == alone.threshold
        np.testing.assert_array_equal(
            calibrator.sets(p, groups)[part], alone.sets(p[part])
        )
    again = uq.calibration.LeastAmbiguousSets.from_config(calibrator.get_config())
    np.testing.assert_array_equal(again.sets(p, groups), calibrator.sets(p, groups))


def test_a_shift_breaks_the_coverage():
    """The guarantee is for examples like those of the calibration."""
    p, y, _ = hard_world(4000)
    calibrator = LeastAmbiguousSets(LEVEL).fit(p, y)
    hard = y == CLASSES - 1  # a world in which only the last class is left
    shares = calibrator.sets(p)[np.arange(len(y)), y]
    assert shares.mean() >= LEVEL
    assert shares[hard].mean() < LEVEL - 0.1


def test_a_penalty_and_the_least_ambiguous_make_small_sets():
    """20 classes, most of them unlikely."""
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(4000, 20))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = labels(rng, p)
    sizes = [
        calibrator.fit(p, y).sets(p).sum(axis=1).mean()
        for calibrator in (
            AdaptivePredictionSets(),
            AdaptivePredictionSets(penalty=0.05),
            LeastAmbiguousSets(),
        )
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.95 * sizes[0]


def test_errors_of_groups():
    p, y, groups = hard_world(200)
    sets = LeastAmbiguousSets(LEVEL)
    with pytest.raises(
        ValueError, match=r"9 points in each group, also in 2.* 0 point"
    ):
        sets.fit(p[y != 2], y[y != 2], "classes")
    rare = np.where(np.arange(200) < 5, "b", "a")
    with pytest.raises(ValueError, match=r"9 points in each group, also in b.* 5 poi"):
        sets.fit(p, y, rare)
    with pytest.raises(ValueError, match="`groups` must be one of 'classes'"):
        sets.fit(p, y, "labels")
    for bad in (groups[:7], np.ones(200)):
        with pytest.raises(ValueError, match="one name or whole number for each of"):
            sets.fit(p, y, bad)
    sets.fit(p, y, groups)
    with pytest.raises(ValueError, match=r"must be among those of `fit`.* z"):
        sets.sets(p[:1], ["z"])
    with pytest.raises(ValueError, match="`groups` must be given, as it was"):
        sets.sets(p)
    with pytest.raises(ValueError, match="`groups` must be None"):
        sets.fit(p, y).sets(p, groups)
    for bad in (-0.1, np.nan):
        with pytest.raises(ValueError, match="`penalty` must be a non-negative"):
            AdaptivePredictionSets(penalty=bad)
    with pytest.raises(ValueError, match="`unpenalized` must be a positive integer"):
        AdaptivePredictionSets(unpenalized=0)


def test_a_bernoulli_has_the_classes_no_and_yes():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(400, 1))
    y = labels(rng, np.concatenate([1 - p, p], axis=1))
    logits = np.log(p / (1 - p))
    one = uq.ClassPrediction(logits[None], "bernoulli")
    two = uq.ClassPrediction(
        np.concatenate([0 * logits, logits], axis=1)[None], "categorical"
    )
    found = [AdaptivePredictionSets().fit(q, y).sets(q) for q in (one, two)]
    np.testing.assert_array_equal(*found)


def test_moments_of_classes_are_enough():
    logits = np.random.default_rng(0).normal(size=(1, 40, 3))
    whole, y = uq.ClassPrediction(logits, "categorical"), np.arange(40) % 3
    parts = (whole.mean, whole.aleatoric_std**2, whole.epistemic_std**2)
    moments = uq.ClassMoments(*parts, whole.expected_entropy, "categorical", 1)
    found = AdaptivePredictionSets().fit(moments, y).sets(moments)
    expected = AdaptivePredictionSets().fit(whole, y).sets(whole)
    np.testing.assert_array_equal(found, expected)


def test_an_array_of_probabilities_of_any_library():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), size=60), rng.integers(0, 3, 60)
    whole = uq.Prediction(p[None], uq.families.Categorical(from_logits=False))
    found = AdaptivePredictionSets().fit(p, y).sets(p)
    np.testing.assert_array_equal(
        found, AdaptivePredictionSets().fit(whole, y).sets(whole)
    )


def test_errors():
    for bad in (np.full(50, 2), np.full(50, -1), np.full(50, 0.5)):
        with pytest.raises(ValueError, match="`y` must hold labels from 0 to 1"):
            AdaptivePredictionSets().fit(even(50), bad)
    with pytest.raises(ValueError, match="one label per example"):
        AdaptivePredictionSets().fit(even(50), np.zeros(49))
    with pytest.raises(ValueError, match=r"0.9 must have at least 9 points"):
        AdaptivePredictionSets(0.9).fit(even(1), [0])
    with pytest.raises(ValueError, match="must be fitted before use"):
        AdaptivePredictionSets().sets(even(1))
    for bad in (np.nan, -0.1):
        with pytest.raises(ValueError, match="`threshold` must be a non-negative"):
            AdaptivePredictionSets(threshold=bad)
    normal = uq.Prediction(np.ones((1, 9, 2)), "normal")
    with pytest.raises(ValueError, match="must be of the family 'categorical'"):
        AdaptivePredictionSets().fit(normal, np.zeros(9))
    for bad in (np.full((9, 1), 0.5), np.full(9, 0.5), ["a"] * 9):
        with pytest.raises(ValueError, match=r"array of probabilities \(N, K\)"):
            AdaptivePredictionSets().fit(bad, np.zeros(9))
    for bad in (np.full((9, 2), 0.6), np.tile([-1.0, 2.0], (9, 1))):
        with pytest.raises(ValueError, match="probabilities that add up to 1"):
            AdaptivePredictionSets().fit(bad, np.zeros(9))
