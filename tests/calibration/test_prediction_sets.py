"""Sets of classes keep their guarantee, under a wrong model too."""

import numpy as np
import pytest

import keras_uq_layers as uq
from keras_uq_layers.calibration import AdaptivePredictionSets


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
