"""Special functions that `keras.ops` lacks, from the backend in use.

TensorFlow, JAX and PyTorch each ship these functions, with gradients and
compiled kernels. Few other places in the package look at the backend;
`tests/test_structure.py` lists them.
"""

import importlib

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
    return _dispatch("ndtri", "math.ndtri", "scipy.special.ndtri", "special.ndtri")(
        keras.ops.convert_to_tensor(p)
    )


def lgamma(x):
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


def has_gammainc():
    """Whether the backend in use has an accurate incomplete gamma function."""
    return keras.backend.backend() in ("tensorflow", "torch")


def gammainc(a, x):
    """Regularised lower incomplete gamma function.

    ```
    gammainc(a, x) = integral from 0 to x of t^(a-1) exp(-t) dt / Gamma(a)
    ```

    A compiled kernel for values; see `numerics.gammainc` for gradients.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> half = keras.ops.convert_to_tensor(0.5)
    >>> round(float(gammainc(half, half)), 4)
    0.6827
    """
    path = "special.gammainc"
    function = _dispatch("gammainc", "math.igamma", f"scipy.{path}", path)
    return _in_float64(function, a, x)


def gammaincc(a, x):
    """Regularised upper incomplete gamma function, `1 - gammainc(a, x)`.

    Accurate where it is small. A compiled kernel for values.

    Args:
        a: Tensor of shapes, positive, float32 or float64.
        x: Tensor of limits, not negative.

    Returns:
        Tensor of the broadcast shape, in `[0, 1]`.

    Example:

    >>> half = keras.ops.convert_to_tensor(0.5)
    >>> round(float(gammaincc(half, half)), 4)
    0.3173
    """
    path = "special.gammaincc"
    function = _dispatch("gammaincc", "math.igammac", f"scipy.{path}", path)
    return _in_float64(function, a, x)


def has_betainc():
    """Whether the backend in use has an incomplete beta function."""
    return keras.backend.backend() in ("tensorflow", "jax")


def betainc_value(a, b, x):
    """Regularised incomplete beta function, without its gradients.

    A compiled kernel on TensorFlow and JAX, which do not differentiate it
    with respect to `a` and `b`; see `numerics.betainc` for one with gradients.

    Args:
        a: Positive tensor, float32 or float64.
        b: Positive tensor.
        x: Tensor in `[0, 1]`.

    Returns:
        Tensor of the shape of the arguments.

    Example:

    >>> two = keras.ops.convert_to_tensor(2.0)
    >>> round(float(betainc_value(two, two, keras.ops.convert_to_tensor(0.5))), 4)
    0.5
    """
    a, b, x = (keras.ops.stop_gradient(v) for v in (a, b, x))
    path = "scipy.special.betainc"
    function = _dispatch("betainc", "math.betainc", path, path)
    return _in_float64(function, a, b, x)


def i0e(x):
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


def i1e(x):
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


def _in_float64(function, *arguments):
    # In float32 the backends compute exp(a log(x) - x - lgamma(a)) of terms
    # that nearly cancel: 5 % off at a = 1e5. JAX has float64 only on request.
    ops = keras.ops
    arguments = [ops.convert_to_tensor(v) for v in arguments]
    if keras.backend.backend() == "jax":
        return function(*arguments)
    value = function(*(ops.cast(v, "float64") for v in arguments))
    return ops.cast(value, arguments[-1].dtype)


def _dispatch(name, tensorflow, jax, torch):
    """The function of the backend in use, from its dotted path there."""
    backend = keras.backend.backend()
    paths = {"tensorflow": tensorflow, "jax": jax, "torch": torch}
    if backend not in paths:
        raise ValueError(
            f"`{name}` needs the tensorflow, jax or torch backend. "
            f"Received: backend={backend!r}"
        )
    module, _, path = f"{backend}.{paths[backend]}".partition(".")
    found = importlib.import_module("jax.scipy" if backend == "jax" else module)
    for part in path.removeprefix("scipy.").split("."):
        found = getattr(found, part)
    return found
