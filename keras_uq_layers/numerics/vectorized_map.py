"""A loop over elements, of which JAX and PyTorch take several at once."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_uq_layers._typing import Tensor


def vectorized_map(
    function: Callable[[Tensor], Any], elements: Tensor, at_once: int
) -> Any:
    """`ops.map`, of which JAX and PyTorch take several elements at once.

    Args:
        function: A function of an element, which returns a structure of tensors.
        elements: Tensor with the elements on its first axis.
        at_once: How many. More than one only where `vectorizes` says so.
    """
    if keras.backend.backend() == "jax":
        # A remainder would be compiled a second time.
        at_once = max(n for n in range(1, at_once + 1) if len(elements) % n == 0)
    if at_once == 1:
        return ops.map(function, elements)
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.map(function, elements, batch_size=at_once)
    import torch

    try:
        return torch.vmap(function, chunk_size=at_once)(elements)
    except Exception:  # an operation may refuse these shapes, and take others
        return ops.map(function, elements)


def vectorizes(function: Callable[..., Any], elements: Any) -> bool:
    """Whether a function of an element can take several at once, and gains by it.

    On TensorFlow it gains nothing: `tf.vectorized_map` takes 0.9 to 3 times as long as
    the loop of `ops.map`.

    Args:
        function: As for `vectorized_map`.
        elements: Two elements, in a structure of tensors.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return False
    try:
        if backend == "jax":
            import jax

            jax.eval_shape(jax.vmap(function), elements)
        else:
            import torch

            with torch.no_grad():
                torch.vmap(function)(elements)
    except Exception:  # whatever an operation says that knows no such axis
        return False
    return True
