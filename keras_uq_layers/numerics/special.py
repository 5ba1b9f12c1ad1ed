"""Special functions that `keras.ops` lacks, from the backend in use.

The only place in the package that looks at the backend: TensorFlow, JAX and
PyTorch each ship these functions, with gradients and compiled kernels.
"""

import keras


def ndtri(p):
    """Quantile of the standard normal distribution.

    ```
    ndtri(p) = z  such that  p = (1 + erf(z / sqrt(2))) / 2
    ```

    Accurate in both tails, unlike `sqrt(2) * erfinv(2 * p - 1)`, which is
    `-inf` below 3e-8 in float32.

    Args:
        p: Tensor of probabilities, float32 or float64.

    Returns:
        Tensor of the shape of `p`; `-inf` at 0, `inf` at 1, NaN outside.

    Example:

    >>> round(float(ndtri(keras.ops.convert_to_tensor(0.975))), 4)
    1.96

    Reference:
        Wichura, 1988, "Algorithm AS 241", Applied Statistics 37(3).
    """
    p = keras.ops.convert_to_tensor(p)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.math.ndtri(p)
    if backend == "jax":
        import jax

        return jax.scipy.special.ndtri(p)
    if backend == "torch":
        import torch

        return torch.special.ndtri(p)
    raise ValueError(
        "`ndtri` needs the tensorflow, jax or torch backend. "
        f"Received: backend={backend!r}"
    )
