"""Comparison with an exact value, in units of the dtype's rounding error."""

import keras
import ml_dtypes
import mpmath
import numpy as np
from backend import value_and_gradients

mpmath.mp.dps = 60

# Results beyond a quarter of the largest number may come back as inf: factors
# of two inside a formula overflow first.
_HEADROOM = 4.0


def result_dtype(dtype):
    """The dtype in which the numerics answer: float32 or wider."""
    return "float64" if dtype == "float64" else "float32"


def assert_close(got, exact, tolerance, dtype, what=""):
    """`got` is `exact` to within `tolerance`, both scalars.

    Where `exact` overflows the dtype, `got` is inf of the right sign.

    Args:
        got: Float, the value computed.
        exact: mpmath number.
        tolerance: Absolute tolerance, mpmath number or float.
        dtype: Dtype of the computation.
        what: Said in the error.
    """
    info = ml_dtypes.finfo(result_dtype(dtype))
    assert not np.isnan(got), f"{what}: NaN, expected {mpmath.nstr(exact, 8)}"
    if abs(exact) > float(info.max) / _HEADROOM:
        right_sign = (got > 0) == (exact > 0)
        close = np.isfinite(got) and abs(mpmath.mpf(float(got)) - exact) <= tolerance
        assert close or (np.isinf(got) and right_sign), (
            f"{what}: {got}, expected an overflow to {mpmath.nstr(exact, 8)}"
        )
        return
    assert np.isfinite(got), f"{what}: {got}, expected {mpmath.nstr(exact, 8)}"
    error = abs(mpmath.mpf(float(got)) - exact)
    # Below the smallest normal number the hardware may flush to zero.
    allowed = tolerance + 2 * float(info.tiny)
    assert error <= allowed, (
        f"{what}: {got!r}, expected {mpmath.nstr(exact, 17)}, "
        f"error {mpmath.nstr(error, 3)} > {mpmath.nstr(mpmath.mpf(allowed), 3)}"
    )


def saturates(product, dtype):
    """Whether a gradient may be inf early: see `numerics.divide`, on JAX."""
    largest = float(ml_dtypes.finfo(result_dtype(dtype)).max)
    return keras.backend.backend() == "jax" and abs(product) > largest / _HEADROOM


def of_parts(family, method):
    """A method of a family as a function of the target and of each parameter."""

    def function(y, *parts):
        params = keras.ops.stack(parts, axis=-1)
        target = keras.ops.convert_to_tensor(y)[..., None]
        return getattr(family, method)(target, params)[..., 0]

    function.__name__ = f"{family.name}_{method}"
    return function


def flush(scale):
    """How much z moves where a difference is flushed to zero, over eps."""
    return mpmath.mpf(2) ** (52 - 125) / scale


def check_function(function, exact, rows, dtype):
    """Values and gradients of `function` at many points against the exact ones.

    Args:
        function: Elementwise function of tensors.
        exact: Function of mpmath numbers that returns a list of pairs
            `(exact, condition)`, or triples with a product that may overflow
            on JAX (see `saturates`): for the value, then for the gradient with
            respect to each argument; the tolerance is `condition * eps`. A
            condition `(condition, amplified)` adds `amplified` times the
            smallest normal number: an intermediate result that was flushed to
            zero, times the factor that follows it. None skips that gradient.
        rows: List of tuples, one argument list per point.
        dtype: Dtype of the arguments.
    """
    columns = [np.array(column).astype(dtype) for column in zip(*rows, strict=True)]
    value, gradients = value_and_gradients(function, *columns)
    info = ml_dtypes.finfo(result_dtype(dtype))
    eps, tiny = float(info.eps), float(info.tiny)
    half = dtype in ("float16", "bfloat16")
    for i in range(len(rows)):
        arguments = [mpmath.mpf(float(c[i].astype("float64"))) for c in columns]
        expected = exact(*arguments)
        for name, got, pair in zip(
            ("value", *(f"gradient {j}" for j in range(len(columns)))),
            (value, *gradients),
            expected,
            strict=True,
        ):
            # The gradient of a half precision argument is rounded to it.
            if pair is None or (half and name != "value"):
                assert not np.isnan(got[i]), f"{name} at {arguments}: NaN"
                continue
            result, condition, *product = pair
            if product and saturates(product[0], dtype) and np.isinf(got[i]):
                assert (got[i] > 0) == (result > 0), f"{name} at {arguments}"
                continue
            if not isinstance(condition, tuple):
                condition = condition, 0
            tolerance = condition[0] * eps + condition[1] * tiny
            assert_close(got[i], result, tolerance, dtype, f"{name} at {arguments}")
