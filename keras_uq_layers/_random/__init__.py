"""Random numbers: those of `keras.random`, but for what is slow.

On PyTorch these functions go a shorter way to the same numbers (`on_torch.py`): the
way of Keras from a seed to a generator takes most of the time of a small draw.

With TensorFlow on a CPU two things are slow:

- Where XLA compiles for a CPU, Philox, the usual generator, takes tens of times as long
  as in a graph without XLA. There these functions take the other generator of
  TensorFlow, Threefry, which is that of JAX.
- Many normal numbers take up to one and a half times as long as the Box-Muller
  transform of as many uniform numbers, in operations on whole tensors.

Everywhere else these are the functions of `keras.random`.
"""

import itertools
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics import at_least_float32

# So many normal numbers cost as much in one operation as by the transform.
_FEW = 1000

# So many random signs come from one random integer.
_BITS = 16


def normal(shape: Any, dtype: str, seed: Seed) -> Tensor:
    """Standard normal numbers."""
    if (on_torch := _on_torch()) is not None:
        return on_torch.normal(shape, dtype, seed)
    size: Any = math.prod(shape)  # a tensor where an axis has no static length
    few = isinstance(size, int) and size < _FEW and not _xla_compiles_for_cpu()
    if few or not _is_tensorflow_on_cpu():
        return keras.random.normal(shape, dtype=dtype, seed=seed)
    # Half precision has so few uniform numbers that none gives a normal one above 4.
    wide = at_least_float32(dtype)
    first, second = ops.unstack(uniform((2, (size + 1) // 2), 0.0, wide, seed))
    # Box & Muller, 1958, doi:10.1214/aoms/1177706645
    radius = ops.sqrt(-2.0 * ops.log(1.0 - first))  # uniform numbers may be 0, not 1
    angle = 2.0 * math.pi * second
    pairs = ops.stack([radius * ops.cos(angle), radius * ops.sin(angle)])
    return ops.cast(ops.reshape(ops.reshape(pairs, (-1,))[:size], shape), dtype)


def uniform(shape: Shape, minval: float, dtype: str, seed: Seed) -> Tensor:
    """Uniform numbers from `minval` to 1, without 1."""
    if (on_torch := _on_torch()) is not None:
        return on_torch.uniform(shape, minval, dtype, seed)
    if not _xla_compiles_for_cpu():
        return keras.random.uniform(shape, minval=minval, dtype=dtype, seed=seed)
    import tensorflow as tf

    return tf.random.stateless_uniform(
        shape,
        _keras.tensorflow_seed(seed),
        minval=minval,
        dtype=dtype,
        alg="threefry",
    )


def integers(shape: Any, maxval: int, seed: Seed) -> Tensor:
    """Integers from 0 to `maxval - 1`, all equally likely, of dtype int32."""
    if (on_torch := _on_torch()) is not None:
        return on_torch.integers(shape, maxval, seed)
    if not _xla_compiles_for_cpu():
        return keras.random.randint(shape, 0, maxval, dtype="int32", seed=seed)
    import tensorflow as tf

    return tf.random.stateless_uniform(
        shape,
        _keras.tensorflow_seed(seed),
        minval=0,
        maxval=maxval,
        dtype="int32",
        alg="threefry",
    )


def signs(rows: Any, columns: Sequence[int], dtype: str, seed: Seed) -> list[Tensor]:
    """Random signs, -1 and 1, of which each row is for one example.

    Args:
        rows: Number of rows, an integer or a scalar tensor.
        columns: Number of columns of each tensor.
        dtype: Name of their dtype.
        seed: A seed.

    Returns:
        List of tensors `(rows, n)`, one for each `n` in `columns`.
    """
    # Random numbers cost more than arithmetic. So one integer gives many signs.
    words = integers((rows, -(-sum(columns) // _BITS), 1), 2**_BITS, seed)
    if keras.backend.backend() == "torch":
        import torch

        # The operators of PyTorch: those of Keras take three times as long for few.
        shifts = torch.arange(_BITS, dtype=words.dtype, device=words.device)
        bits = ((words >> shifts) & 1).flatten(1).to(getattr(torch, dtype))
        found = bits.mul_(2).sub_(1)
    else:
        bits = ops.bitwise_and(ops.right_shift(words, ops.arange(_BITS)), 1)
        bits = ops.reshape(bits, (ops.shape(bits)[0], bits.shape[1] * _BITS))
        found = ops.cast(2 * bits - 1, dtype)
    ends = list(itertools.accumulate(columns, initial=0))
    return [found[:, i:j] for i, j in itertools.pairwise(ends)]


def dropout(inputs: Tensor, rate: float, noise_shape: Shape, seed: Seed) -> Tensor:
    """Inputs of which a share is 0; the others are divided by `1 - rate`.

    Args:
        inputs: A tensor.
        rate: The share, inside (0, 1).
        noise_shape: Shape of the mask; None is the size of that axis of `inputs`.
        seed: A seed.
    """
    if (on_torch := _on_torch()) is not None:
        kept = on_torch.kept(_mask_shape(inputs, noise_shape), rate, seed)
        return ops.where(kept, inputs / (1.0 - rate), ops.zeros_like(inputs))
    if not _xla_compiles_for_cpu():
        return keras.random.dropout(inputs, rate, noise_shape=noise_shape, seed=seed)
    import tensorflow as tf

    return tf.nn.experimental.stateless_dropout(
        inputs,
        rate=rate,
        noise_shape=_mask_shape(inputs, noise_shape),
        seed=_keras.tensorflow_seed(seed),
        rng_alg="threefry",
    )


def _mask_shape(inputs: Tensor, noise_shape: Shape) -> list:
    sizes = zip(noise_shape, ops.shape(inputs), strict=True)
    return [own if size is None else size for size, own in sizes]


def _on_torch() -> ModuleType | None:
    """The same functions for PyTorch.

    Returns:
        A module, or None: on another backend, and where there is no generator, which
        is in a trace of shapes or of a compiler.
    """
    if keras.backend.backend() != "torch":
        return None
    import torch

    if _keras.torch_device() == "meta" or torch.compiler.is_compiling():
        return None
    from keras_uq_layers._random import on_torch

    return on_torch


def _is_tensorflow_on_cpu() -> bool:
    """Whether the backend is TensorFlow, on a machine without an accelerator."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    devices = tf.config.list_physical_devices()
    return all(device.device_type == "CPU" for device in devices)


def _xla_compiles_for_cpu() -> bool:
    """Whether this is the trace of a TensorFlow function that XLA compiles for a CPU.

    TensorFlow 2.21 has no public function that says so. If this one moves, the answer
    is no, and draws are slow there.
    """
    if not _is_tensorflow_on_cpu():
        return False
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    try:
        from tensorflow.python.ops import control_flow_util
    except ImportError:
        return False
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)
