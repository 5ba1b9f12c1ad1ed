"""Differences of gamma functions, against mpmath."""

import mpmath
import numpy as np
import pytest
from backend import needs_float64
from backend import to_numpy

from keras_uq_layers import numerics
from keras_uq_layers.numerics.saddle_point import log1p_minus


@needs_float64
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@mpmath.workdps(40)
def test_parts_that_cancel(dtype):
    eps = np.finfo(dtype).eps
    rng = np.random.default_rng(3)
    x = (10 ** rng.uniform(-6, 8, 200)).astype(dtype)
    got = to_numpy(numerics.stirling_error(x))
    half_log = mpmath.log(2 * mpmath.pi) / 2
    for value, at in zip(got, map(mpmath.mpf, x.astype("float64")), strict=True):
        log = mpmath.log(at)
        exact = mpmath.loggamma(at) - (at - 0.5) * log + at - half_log
        assert abs(value - exact) < 40 * eps * max(1, abs(log))
    d = np.concatenate(
        [10 ** rng.uniform(-8, 3, 99), -(10 ** rng.uniform(-8, -0.01, 99))]
    )
    d = d.astype(dtype)
    got = to_numpy(log1p_minus(d))
    for value, at in zip(got, map(mpmath.mpf, d.astype("float64")), strict=True):
        exact = mpmath.log1p(at) - at
        assert abs(value / exact - 1) < 40 * eps
