"""TensorFlow 2.21: the derivative of `tf.math.igamma(a, x)` with respect to `a`
is off by 0.1 % where `a` is large, in float64.

The workaround is `numerics.gammainc`.
"""

import numpy as np
import scipy.special
from only import only


@only("tensorflow")
def test_off_by_a_thousandth():
    import tensorflow as tf

    a = tf.constant(2e4, tf.float64)
    x = a - 0.1 * tf.sqrt(a)
    with tf.GradientTape() as tape:
        tape.watch(a)
        value = tf.math.igamma(a, tf.stop_gradient(x))
    got = float(tape.gradient(value, a))
    ends = scipy.special.gammainc([2e4 - 0.01, 2e4 + 0.01], float(x))
    exact = (ends[1] - ends[0]) / 0.02
    assert np.abs(got / exact - 1) > 1e-3
