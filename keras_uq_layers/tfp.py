"""The bridge to TensorFlow Probability, the only module that imports it."""

import functools

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_uq_layers import families

tfd = tfp.distributions


def to_tfp(params, family="normal"):
    """The TensorFlow Probability distribution that these params describe.

    Args:
        params: Tensor of any backend, or array, of shape `(..., P * D)`.
            Gradients flow through it on the TensorFlow backend only; a
            tensor of another backend is copied.
        family: Name or object of the family.

    Returns:
        A `tfp.distributions.Distribution` with batch shape `(...)` and event
        shape `(D,)`: its `log_prob` is summed over the outputs.

    Raises:
        ValueError: The last axis of `params` does not fit the family.
        NotImplementedError: The family has no counterpart there.

    Example:

    >>> distribution = uq.to_tfp(np.array([[0.0, 1.0]]), "normal")
    >>> distribution.batch_shape, distribution.event_shape
    (TensorShape([1]), TensorShape([1]))
    """
    family = families.get(family)
    if not tf.is_tensor(params) and keras.ops.is_tensor(params):
        params = keras.ops.convert_to_numpy(params)
    elif not tf.is_tensor(params):
        params = np.asarray(params)
    if not (
        tf.as_dtype(params.dtype).is_floating and tf.as_dtype(params.dtype).size > 2
    ):
        params = tf.cast(params, "float32")
    units = family.units(params.shape[-1] if len(params.shape) else None)
    return distribution(family, tf.convert_to_tensor(params), units)


@functools.singledispatch
def distribution(family, params, units):
    """Makes the distribution of one family; open for your own families.

    Register a function `(family, params, units)` with
    `distribution.register(MyFamily)`.
    """
    raise NotImplementedError(
        f"The family {family.name!r} has no TensorFlow Probability counterpart. "
        "Register one with `keras_uq_layers.tfp.distribution.register`."
    )


@distribution.register
def _(family: families.Normal, params, units):
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Normal(loc, scale), 1)


@distribution.register
def _(family: families.Laplace, params, units):
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Laplace(loc, scale), 1)


@distribution.register
def _(family: families.Bernoulli, params, units):
    return tfd.Independent(tfd.Bernoulli(logits=params, dtype=params.dtype), 1)


@distribution.register
def _(family: families.Categorical, params, units):
    return tfd.OneHotCategorical(logits=params, dtype=params.dtype)
