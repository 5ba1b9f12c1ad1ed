"""JAX 0.10.2: the derivative of `x / scale` is formed as `-x * scale**-2`,
which is `0 * inf = NaN` as soon as the square underflows.

The workaround is `numerics.divide`.
"""

import numpy as np
import pytest


def test_the_gradient_is_nan():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    slope = jax.grad(lambda s: np.float32(0.0) / s)(np.float32(1e-25))
    assert np.isnan(slope)
