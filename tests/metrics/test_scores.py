import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from test_losses import Masked
from test_losses import data

import keras_uq_layers as uq
from keras_uq_layers import metrics

METRICS = [
    metrics.NegativeLogLikelihood,
    metrics.MeanAbsoluteError,
    metrics.RootMeanSquaredError,
]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)


def whole(metric, y, params, weights=None):
    m = metric("normal")
    m.update_state(y, params, weights)
    return float(to_numpy(m.result()))


def test_against_the_definitions():
    y, params, loc, _ = data((4, 3), units=2)
    assert np.isclose(
        whole(metrics.NegativeLogLikelihood, y, params),
        float(uq.losses.NegativeLogLikelihood("normal")(y, params)),
    )
    assert np.isclose(whole(metrics.MeanAbsoluteError, y, params), abs(y - loc).mean())
    assert np.isclose(
        whole(metrics.RootMeanSquaredError, y, params), ((y - loc) ** 2).mean() ** 0.5
    )


@each_metric
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), weighted=st.booleans()
)
def test_on_batches_it_equals_the_whole(metric, sizes, weighted):
    y, params, _, _ = data((sum(sizes),), units=2)
    weights = np.random.default_rng(0).uniform(size=sum(sizes)) if weighted else None
    expected = whole(metric, y, params, weights)
    m = metric("normal")
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        m.update_state(
            y[part], params[part], None if weights is None else weights[part]
        )
        start += size
    np.testing.assert_allclose(float(to_numpy(m.result())), expected, rtol=1e-5)


@each_metric
def test_masked_and_unweighted_positions_do_not_count(metric):
    y, params, _, _ = data((4, 3))
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    expected = whole(metric, y[mask], params[mask])
    y[~mask], params[~mask] = np.nan, np.inf
    m = metric("normal")
    m.update_state(y, Masked(mask)(params))
    np.testing.assert_allclose(float(to_numpy(m.result())), expected, rtol=1e-5)
    weighted = whole(metric, y, params, mask.astype("float32"))
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)


@each_metric
def test_weights_are_a_weighted_mean(metric):
    y, params, _, _ = data((4,))
    twice = np.array([0, 0, 1, 1, 2, 3])
    expected = whole(metric, y[twice], params[twice])
    weights = np.array([2.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(whole(metric, y, params, weights), expected, rtol=1e-5)


@each_metric
def test_shapes_that_do_not_agree(metric):
    with pytest.raises(ValueError, match="`y` must have shape"):
        metric("normal").update_state(np.ones((1, 4)), np.ones((4, 2)))


@each_metric
def test_reset_config_and_empty(metric):
    m = metric("laplace", name="mine")
    assert float(to_numpy(m.result())) == 0.0
    m.update_state(np.ones(3), np.ones((3, 2)))
    m.reset_state()
    assert float(to_numpy(m.result())) == 0.0
    again = keras.metrics.deserialize(keras.metrics.serialize(m))
    assert again.get_config() == m.get_config()
    assert again.name == "mine"


def test_why_mae_itself_is_no_metric_here():
    """What `metrics=["mae"]` computes on a params tensor, without an error."""
    y, params, loc, scale = data()
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss=uq.losses.NegativeLogLikelihood("normal"), metrics=["mae"])
    logs = model.evaluate(params, y, verbose=0, return_dict=True)
    mixed = np.mean([abs(y - loc), abs(y - scale)])
    np.testing.assert_allclose(logs["mae"], mixed, rtol=1e-5)
    assert abs(mixed - abs(y - loc).mean()) > 0.01
