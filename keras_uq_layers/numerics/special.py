"""Special functions that `keras.ops` lacks, from the backend in use.

TensorFlow, JAX and PyTorch ship these functions as compiled kernels. Those
whose name ends in `_value` have no gradient, or an inexact one, on some
backend: `numerics.gammainc` and `numerics.betainc` have all of theirs. Few
other places in the package look at the backend; `tests/test_structure.py`
lists them.
"""

import importlib
from collections.abc import Callable
from typing import Any

import keras

from keras_uq_layers._typing import Tensor


def ndtri(p: Tensor) -> Tensor:
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
    return _dispatch("ndtri", "math.ndtri", "scipy.special.ndtri", "special.ndtri")(
        keras.ops.convert_to_tensor(p)
    )


def lgamma(x: Tensor) -> Tensor:
    """Logarithm of the absolute value of the gamma function.

    Args:
        x: Tensor, float32 or float64.

    Returns:
        Tensor of the shape of `x`; `inf` at 0.

    Example:

    >>> round(float(lgamma(keras.ops.convert_to_tensor(5.0))), 4)
    3.1781
    """
    return _dispatch("lgamma", "math.lgamma", "scipy.special.gammaln", "lgamma")(
        keras.ops.convert_to_tensor(x)
    )


def has_gammainc() -> bool:
    """Whether the backend in use has an accurate incomplete gamma function."""
    return keras.backend.backend() in ("tensorflow", "torch")


def gammainc_value(a: Tensor, x: Tensor) -> Tensor:
    """Regularised lower incomplete gamma function, without its gradients.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> half = keras.ops.convert_to_tensor(0.5)
    >>> round(float(gammainc_value(half, half)), 4)
    0.6827
    """
    path = "special.gammainc"
    function = _dispatch("gammainc", "math.igamma", f"scipy.{path}", path)
    return _in_float64(function, a, x)


def gammaincc_value(a: Tensor, x: Tensor) -> Tensor:
    """Regularised upper incomplete gamma function, without its gradients.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> half = keras.ops.convert_to_tensor(0.5)
    >>> round(float(gammaincc_value(half, half)), 4)
    0.3173
    """
    path = "special.gammaincc"
    function = _dispatch("gammaincc", "math.igammac", f"scipy.{path}", path)
    return _in_float64(function, a, x)


def has_betainc() -> bool:
    """Whether the backend in use has an accurate incomplete beta function."""
    return keras.backend.backend() == "tensorflow"


def betainc_value(a: Tensor, b: Tensor, x: Tensor, complement: Tensor) -> Tensor:
    """Regularised incomplete beta function, without its gradients.

    Args:
        a: Positive tensor, float32 or float64.
        b: Positive tensor.
        x: Tensor in `[0, 1]`.
        complement: `1 - x`, which has more digits where it is the smaller one.

    Returns:
        Tensor of the shape of the arguments.

    Example:

    >>> two = keras.ops.convert_to_tensor(2.0)
    >>> half = keras.ops.convert_to_tensor(0.5)
    >>> round(float(betainc_value(two, two, half, half)), 4)
    0.5
    """
    ops, path = keras.ops, "scipy.special.betainc"
    kernel = _dispatch("betainc", "math.betainc", path, path)

    def of_both(a: Tensor, b: Tensor, x: Tensor, rest: Tensor) -> Tensor:
        return kernel(a, b, ops.where(rest < 0.5, 1.0 - rest, x))

    return _in_float64(of_both, *map(ops.stop_gradient, (a, b, x, complement)))


def i0e(x: Tensor) -> Tensor:
    """Modified Bessel function of order 0, times `exp(-|x|)`.

    Args:
        x: Tensor, float32 or float64.

    Returns:
        Tensor of the shape of `x`, in `(0, 1]`.

    Example:

    >>> float(i0e(keras.ops.convert_to_tensor(0.0)))
    1.0
    """
    return _dispatch("i0e", "math.bessel_i0e", "scipy.special.i0e", "special.i0e")(x)


def i1e(x: Tensor) -> Tensor:
    """Modified Bessel function of order 1, times `exp(-|x|)`.

    Args:
        x: Tensor, float32 or float64.

    Returns:
        Tensor of the shape of `x`.

    Example:

    >>> float(i1e(keras.ops.convert_to_tensor(0.0)))
    0.0
    """
    return _dispatch("i1e", "math.bessel_i1e", "scipy.special.i1e", "special.i1e")(x)


def _in_float64(function: Callable, *arguments: Tensor) -> Tensor:
    # In float32 the backends compute exp(a log(x) - x - lgamma(a)) of terms
    # that nearly cancel: 5 % off at a = 1e5. JAX has float64 only on request.
    ops = keras.ops
    tensors = [ops.convert_to_tensor(v) for v in arguments]
    if keras.backend.backend() == "jax":
        return function(*tensors)
    value = function(*(ops.cast(v, "float64") for v in tensors))
    return ops.cast(value, tensors[-1].dtype)


def _dispatch(name: str, tensorflow: str, jax: str, torch: str) -> Callable:
    """The function of the backend in use, from its dotted path there."""
    backend = keras.backend.backend()
    paths = {"tensorflow": tensorflow, "jax": jax, "torch": torch}
    if backend not in paths:
        raise ValueError(
            f"`{name}` needs the tensorflow, jax or torch backend. "
            f"Received: backend={backend!r}"
        )
    module, _, path = f"{backend}.{paths[backend]}".partition(".")
    found: Any = importlib.import_module("jax.scipy" if backend == "jax" else module)
    for part in path.removeprefix("scipy.").split("."):
        found = getattr(found, part)
    return found
