"""The root search, where the root is known: the place of a step."""

import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from strategies import dtypes
from strategies import reals

from keras_uq_layers import numerics

ROOTS = 8


def step_at(roots, level=0.5, **options):
    """The root of a function that is 0 below `roots`, and 1 from there on."""
    roots = ops.convert_to_tensor(roots)
    found = numerics.monotone_root(
        lambda y: ops.cast(y >= roots, roots.dtype),
        ops.full_like(roots, level),
        **options,
    )
    return to_numpy(found)


@given(dtype=dtypes(("float32", "float64")), data=st.data())
def test_the_root_is_found_at_any_magnitude(dtype, data):
    drawn = data.draw(st.lists(reals(dtype), min_size=ROOTS, max_size=ROOTS))
    half = 0.5 * float(np.finfo(dtype).max)  # the search ends there
    roots = np.clip(drawn, -half, half).astype(dtype)
    found = step_at(roots)
    error = np.abs(found - roots)
    tiny = np.finfo(dtype).tiny
    assert (error[roots == 0.0] <= tiny).all()
    assert (error <= np.maximum(np.spacing(np.abs(roots)), tiny)).all()


@given(data=st.data())
def test_a_whole_number_is_found_exactly(data):
    whole = st.integers(0, 2**24) | st.integers(0, 30) | st.just(2**126)
    drawn = data.draw(st.lists(whole, min_size=ROOTS, max_size=ROOTS))
    roots = np.array(drawn, "float32")
    np.testing.assert_array_equal(step_at(roots, lower=0.0, discrete=True), roots)


def test_the_ends_of_the_level():
    """A level that is reached everywhere or nowhere, and one that is no level."""
    roots = np.ones(1, "float32")
    for level, end in [(0.0, -2.0), (1.0, 7.0), (np.nan, np.nan), (1.5, np.nan)]:
        found = step_at(roots, level, lower=-2.0, upper=7.0)
        np.testing.assert_array_equal(found, [end])


@pytest.mark.parametrize(("lower", "upper"), [(2.0, np.inf), (-np.inf, -2.0)])
def test_the_search_begins_at_a_bound(lower, upper):
    roots = np.sign(lower + upper) * np.array([2.5, 3.0, 1e9], "float32")
    found = step_at(roots, lower=lower, upper=upper)
    np.testing.assert_allclose(found, roots, rtol=3e-7)
