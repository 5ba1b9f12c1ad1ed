"""Hypothesis strategies keyed by support: what a value may be.

Magnitudes are drawn uniformly in the exponent, so that both ends of a dtype
are reached as often as the middle. Subnormal numbers are left out: the
hardware flushes them to zero.
"""

import keras
import ml_dtypes
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

DTYPES = ("float32", "float64")
ALL_DTYPES = ("float16", "bfloat16", *DTYPES)


def available(names=ALL_DTYPES):
    """Those dtypes that the backend has: JAX has no float64 unless told so."""
    if keras.backend.backend() == "jax":
        import jax

        if not jax.config.jax_enable_x64:
            return [name for name in names if name != "float64"]
    return list(names)


def dtypes(names=ALL_DTYPES):
    """One of the dtypes that the backend has."""
    return st.sampled_from(available(names))


def of_many_points(points):
    """Settings of a test whose every example has so many points: fewer examples.

    A call with many points takes hardly longer than one with a single point. One
    more, because the first example of hypothesis is the simplest of all.
    """
    return settings(max_examples=1 + max(1, settings().max_examples // points))


def _exponents(dtype, low, high):
    info = ml_dtypes.finfo(dtype)
    smallest = np.log10(float(info.tiny)) + 0.01
    largest = np.log10(float(info.max)) - 0.01
    return st.floats(max(low, smallest), min(high, largest))


def normalised(x, dtype="float32"):
    """`x`, or the zero of its sign where the dtype would hold a subnormal number."""
    return (
        x if abs(x) >= float(ml_dtypes.finfo(dtype).tiny) else float(np.copysign(0, x))
    )


def positives(dtype="float32", low=-400, high=400):
    """Positive numbers from `10**low` to `10**high`, within the dtype."""
    return _exponents(dtype, low, high).map(lambda e: float(10.0**e))


def reals(dtype="float32", low=-400, high=400):
    """Numbers of either sign, both zeros, and the ends of the dtype."""
    largest = float(ml_dtypes.finfo(dtype).max)
    signed = st.builds(
        lambda sign, x: sign * x,
        st.sampled_from([-1.0, 1.0]),
        positives(dtype, low, high),
    )
    return st.one_of(
        signed,
        st.floats(-10.0, 10.0).map(lambda x: normalised(x, dtype)),
        st.sampled_from([0.0, -0.0, largest, -largest] if high >= 400 else [0.0, -0.0]),
    )


def probabilities():
    """Probabilities inside (0, 1), both tails by exponent."""
    tail = st.floats(-30.0, -0.31).map(lambda e: 10.0**e)
    return st.one_of(
        tail, st.floats(0.001, 0.999), st.floats(1e-6, 0.5).map(lambda p: 1 - p)
    )


def arrays(elements, dtype="float32", max_dims=3, min_dims=0):
    """Arrays of such numbers, zero-size shapes included.

    Of few shapes: JAX compiles each operation for each shape.
    """
    kinds = [(), (0,), (1,), (4,), (2, 0), (3, 2), (1, 3, 2)]
    shapes = st.sampled_from([k for k in kinds if min_dims <= len(k) <= max_dims])
    return shapes.flatmap(
        lambda shape: st.lists(
            elements, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))
        ).map(
            lambda values: (
                np.array(values, dtype=np.float64).reshape(shape).astype(dtype)
            )
        )
    )


@st.composite
def location_scale(draw, spread=None, low=-400, high=400):
    """A dtype, and rows `(y, loc, scale)`; with `spread`, y near loc.

    Always as many rows: JAX compiles each operation for each shape.
    """
    dtype = draw(dtypes())
    rows = []
    for _ in range(4):
        loc = draw(reals(dtype, low, high))
        scale = draw(positives(dtype, max(low, -30), min(high, 30)))
        y = draw(reals(dtype, low, high))
        if spread is not None:
            y = normalised(loc + scale * draw(st.floats(-spread, spread)), dtype)
        largest = float(np.finfo("float32").max) if dtype != "float16" else 6e4
        if not abs(y) < largest:
            y = 0.0
        rows.append((y, loc, scale))
    return dtype, rows
