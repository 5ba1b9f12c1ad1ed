"""Areas under risk-coverage curves: the definition, torch-uncertainty, limits."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st

import keras_uq_layers as uq

M = uq.metrics
PROBABILITIES = uq.families.Categorical(from_logits=False)


def value(metric, y, p, weight=None):
    metric.update_state(y, p, weight)
    return float(metric.result())


def both(y, p, weight=None):
    return [value(cls(PROBABILITIES), y, p, weight) for cls in (M.AURC, M.AUGRC)]


def binary(confidence):
    return np.stack([confidence, 1 - confidence], axis=1)


# Of torch-uncertainty 0.13 on `rows` below, at 7, 40 and 300 rows: AURC and AUGRC.
TORCH_UNCERTAINTY = {
    7: [0.49682539184060354, 0.2976190471341685],
    40: [0.11587457193038632, 0.08461538496006425],
    300: [0.011891720797571727, 0.009921961910879734],
}


def rows(count):
    """Confidences that differ by more than a cell, and labels."""
    rng = np.random.default_rng(count)
    confidence = 1 - 0.5 * 0.98 ** rng.permutation(count)
    return confidence, (rng.uniform(size=count) > confidence).astype(int)


@pytest.mark.parametrize("count", TORCH_UNCERTAINTY)
def test_areas_are_those_of_torch_uncertainty(count):
    """It leaves out the share below the first row, where ours is constant."""
    confidence, wrong = rows(count)
    first = wrong[confidence.argmax()]
    seen = TORCH_UNCERTAINTY[count]
    expected = np.array(seen) * (1 - 1 / count) + first / count * np.array(
        [1, 1 / (2 * count)]
    )
    np.testing.assert_allclose(both(wrong, binary(confidence)), expected, rtol=1e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_areas_by_definition(wrong):
    wrong = np.array(wrong, dtype=float)
    n = len(wrong)
    confidence = 1 - 0.5 * 0.8 ** np.arange(n)[::-1]  # the first is the surest
    risk = np.cumsum(wrong) / np.arange(1, n + 1)
    coverage = np.arange(1, n + 1) / n
    aurc = np.trapezoid([risk[0], *risk], [0, *coverage])
    augrc = np.trapezoid([0, *coverage * risk], [0, *coverage])
    found = both(wrong, binary(confidence))
    np.testing.assert_allclose(found, [aurc, augrc], rtol=1e-5, atol=1e-7)


def test_limits():
    """All right, all wrong, all equally sure, the wrong ones last."""
    confidence = np.linspace(0.5, 0.9, 100)
    np.testing.assert_allclose(both(np.zeros(100), binary(confidence)), [0, 0])
    found = both(np.ones(100), binary(confidence))
    np.testing.assert_allclose(found, [1, 0.5], rtol=1e-5)
    half = np.arange(100) % 2
    found = both(half, binary(np.full(100, 0.7)))
    np.testing.assert_allclose(found, [0.5, 0.25], rtol=1e-5)
    # The least sure tenth is wrong: c risk(c) = c - 0.9 at the end.
    wrong = np.arange(100) < 10
    _, augrc = both(wrong, binary(confidence))
    np.testing.assert_allclose(augrc, 0.1**2 / 2, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_confidences_close_to_1_are_told_apart(dtype):
    """A softmax is often within a millionth of 1, where errors matter most."""
    error = np.array([0.0, 1e-6, 2e-6, 3e-6, 1e-3])
    p = np.stack([1 - error, error], axis=1).astype(dtype)
    found = M.AUGRC(PROBABILITIES, dtype=dtype)
    expected = np.trapezoid([0, 0, 0, 1, 1, 1], np.arange(6)) / 25
    np.testing.assert_allclose(
        value(found, np.array([0, 0, 1, 0, 0]), p), expected, rtol=1e-5
    )


def test_each_output_of_a_bernoulli_is_a_prediction():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(40, 2)), rng.integers(0, 2, (40, 2))
    flat = value(M.AURC(uq.families.Bernoulli()), y, logits)
    one = M.AURC(uq.families.Bernoulli())
    np.testing.assert_allclose(
        flat, value(one, y.reshape(-1, 1), logits.reshape(-1, 1)), rtol=1e-5
    )


def test_masks_and_weights_of_keras():
    head = uq.DistributionHead(2, "categorical", kernel_initializer="normal")
    model = keras.Sequential([keras.layers.Embedding(9, 3, mask_zero=True), head])
    metrics = [M.AURC(), M.AUGRC()]
    loss = uq.losses.NegativeLogLikelihood()
    model.compile(loss=loss, weighted_metrics=metrics, run_eagerly=True)
    tokens = np.array([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 0]])
    y = np.array([[1, 0, 1, 9], [0, 0, 9, 9], [1, 1, 0, 9]])  # 9 is no class
    weight = np.array([1.0, 0.0, 2.0])
    logs = model.evaluate(tokens, y, sample_weight=weight, verbose=0, return_dict=True)
    kept = (tokens != 0) & (weight > 0)[:, None]
    p = to_numpy(keras.ops.softmax(model(tokens)))[kept]
    each = np.broadcast_to(weight[:, None], tokens.shape)[kept]
    expected = both(y[kept], p, each)
    np.testing.assert_allclose([logs["aurc"], logs["augrc"]], expected, rtol=1e-5)
    assert min(expected) > 0


def test_errors():
    for cls in (M.AURC, M.AUGRC):
        with pytest.raises(ValueError, match="`family` must be one of classes"):
            cls("normal")
