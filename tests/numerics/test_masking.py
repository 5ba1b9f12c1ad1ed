import numpy as np
import pytest
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st

from keras_uq_layers import numerics


@given(
    batch=st.integers(0, 4),
    steps=st.integers(0, 4),
    data=st.data(),
)
def test_masked_mean(batch, steps, data):
    mask = np.array(
        data.draw(
            st.lists(st.booleans(), min_size=batch * steps, max_size=batch * steps)
        ),
        dtype=bool,
    ).reshape(batch, steps)
    values = np.random.default_rng(0).normal(size=(batch, steps))
    spoiled = np.where(mask, values, np.nan)
    got = to_numpy(numerics.masked_mean(spoiled, mask))
    expected = values[mask].mean() if mask.any() else 0.0
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_masked_mean_without_a_mask():
    values = np.arange(6.0).reshape(2, 3)
    assert to_numpy(numerics.masked_mean(values)) == 2.5


def test_no_gradient_passes_a_masked_position():
    valid = np.array([True, False])

    def loss(y):
        return numerics.normal_log_prob(
            numerics.where_valid(valid, y)[:, 0], 0.0, np.float32(1.0)
        )

    y = np.array([[2.0], [np.inf]], "float32")
    _, (gradient,) = value_and_gradients(loss, y)
    assert gradient[:, 0].tolist() == [-2.0, 0.0]


@pytest.mark.parametrize(
    ("given_shape", "shape", "aligned"),
    [
        ((4,), (4,), (4,)),
        ((4, 1), (4,), (4,)),
        ((4,), (4, 7), (4, 1)),
        ((4, 1), (4, 7), (4, 1)),
        ((4, 7), (4, 7), (4, 7)),
        ((4,), (4, 4), (4, 1)),
        ((4, 1), (4, 7, 3), (4, 1, 1)),
        ((4, 7, 3), (4, 7, 3), (4, 7, 3)),
    ],
)
def test_weights_belong_to_the_first_axis(given_shape, shape, aligned):
    weights = numerics.position_weights(np.ones(given_shape), shape)
    assert tuple(weights.shape) == aligned


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [
        ((3,), (4,)),
        ((7,), (4, 7)),
        ((1, 7), (4, 7)),
        ((4, 7), (4, 7, 3)),
        ((4, 2), (4,)),
        ((), (4,)),
        ((1,), (4, 7)),
    ],
)
def test_weights_that_do_not_fit(given_shape, shape):
    with pytest.raises(ValueError, match="`sample_weight` must have one value per"):
        numerics.position_weights(np.ones(given_shape), shape)


def test_a_mask_that_does_not_fit():
    with pytest.raises(
        ValueError, match=r"`mask` must .* Received: mask of shape \(3,\)"
    ):
        numerics.position_mask(np.ones(3), (4, 7))
