"""The bridge to TensorFlow Probability, the only module that imports it."""

import functools
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

from keras_uq_layers import families
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.reading import family_of_params

try:
    import tensorflow as tf
    import tensorflow_probability as tfp
except ImportError as error:
    raise ImportError(
        "`to_tfp` needs TensorFlow Probability, on any backend: "
        "`pip install tensorflow tensorflow-probability[tf]`. "
        f"Received: {error}"
    ) from error

tfd = tfp.distributions
Distribution: TypeAlias = Any
"""A `tfp.distributions.Distribution`: TFP is not typed."""


def to_tfp(params: Tensor, family: Identifier = None) -> Distribution:
    """The TensorFlow Probability distribution that these params describe.

    Args:
        params: Tensor of any backend, or array, of shape `(..., P * D)`.
            Gradients flow through it on the TensorFlow backend only; a
            tensor of another backend is copied.
        family: Name or object of the family, or None: that of the head which
            made `params`.

    Returns:
        A `tfp.distributions.Distribution` with batch shape `(...)` and event
        shape `(D,)`: its `log_prob` is summed over the outputs.

    Raises:
        ValueError: The last axis of `params` does not fit the family, or no
            family is known.
        NotImplementedError: The family has no counterpart there.

    Example:

    >>> distribution = uq.to_tfp(np.array([[0.0, 1.0]]), "normal")
    >>> distribution.batch_shape, distribution.event_shape
    (TensorShape([1]), TensorShape([1]))
    """
    family = family_of_params(params, family)
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
def distribution(family: families.Family, params: Tensor, units: int) -> Distribution:
    """Makes the distribution of one family; open for your own families.

    Register a function `(family, params, units)` with
    `distribution.register(MyFamily)`.
    """
    raise NotImplementedError(
        f"The family {family.name!r} has no TensorFlow Probability counterpart. "
        "Register one with `keras_uq_layers.tfp.distribution.register`."
    )


@distribution.register
def _(family: families.Normal, params: Tensor, units: int) -> Distribution:
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Normal(loc, scale), 1)


@distribution.register
def _(family: families.Laplace, params: Tensor, units: int) -> Distribution:
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Laplace(loc, scale), 1)


@distribution.register
def _(family: families.Logistic, params: Tensor, units: int) -> Distribution:
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Logistic(loc, scale), 1)


@distribution.register
def _(family: families.StudentT, params: Tensor, units: int) -> Distribution:
    loc, scale, *df = tf.split(params, params.shape[-1] // units, axis=-1)
    df = df[0] if df else tf.constant(family.df, params.dtype)
    return tfd.Independent(tfd.StudentT(df, loc, scale), 1)


@distribution.register
def _(family: families.LogNormal, params: Tensor, units: int) -> Distribution:
    loc, scale = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.LogNormal(loc, scale), 1)


@distribution.register
def _(family: families.Gamma, params: Tensor, units: int) -> Distribution:
    mean, concentration = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Gamma(concentration, concentration / mean), 1)


@distribution.register
def _(family: families.Weibull, params: Tensor, units: int) -> Distribution:
    scale, concentration = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Weibull(concentration, scale), 1)


@distribution.register
def _(family: families.Beta, params: Tensor, units: int) -> Distribution:
    alpha, beta = tf.split(params, [units, units], axis=-1)
    return tfd.Independent(tfd.Beta(alpha, beta), 1)


@distribution.register
def _(family: families.Poisson, params: Tensor, units: int) -> Distribution:
    return tfd.Independent(tfd.Poisson(params), 1)


@distribution.register
def _(family: families.NegativeBinomial, params: Tensor, units: int) -> Distribution:
    mean, total_count = tf.split(params, [units, units], axis=-1)
    logits = tf.math.log(mean) - tf.math.log(total_count)
    return tfd.Independent(tfd.NegativeBinomial(total_count, logits=logits), 1)


@distribution.register
def _(family: families.ZeroInflated, params: Tensor, units: int) -> Distribution:
    base, logit = params[..., :-units], params[..., -units:]
    counts = distribution(family.base, base, units).distribution
    # Not `inflated_loc_logits`: TFP 0.25 takes them for logits of a softmax, those
    # of the two cases being `logit` and `-logit`.
    inflated = tfd.Inflated(counts, inflated_loc_probs=tf.sigmoid(logit))
    return tfd.Independent(inflated, 1)


@distribution.register
def _(family: families.Interval, params: Tensor, units: int) -> Distribution:
    # That of the numbers themselves. Its `log_prob` takes exact numbers alone.
    return distribution(family.base, params, units)


@distribution.register
def _(family: families.TruncatedNormal, params: Tensor, units: int) -> Distribution:
    loc, scale = tf.split(params, [units, units], axis=-1)
    # A bound at infinity gives NaN there: a bound that is never reached.
    far = 1e4 * scale + tf.abs(loc)
    lower = family.lower if np.isfinite(family.lower) else -far
    upper = family.upper if np.isfinite(family.upper) else far
    return tfd.Independent(tfd.TruncatedNormal(loc, scale, lower, upper), 1)


@distribution.register
def _(family: families.NormalMixture, params: Tensor, units: int) -> Distribution:
    shape = tf.concat([tf.shape(params)[:-1], [3, family.components, units]], 0)
    parts = tf.linalg.matrix_transpose(tf.reshape(params, shape))
    logits, loc, scale = tf.unstack(parts, axis=-3)
    mixture = tfd.MixtureSameFamily(tfd.Categorical(logits), tfd.Normal(loc, scale))
    return tfd.Independent(mixture, 1)


@distribution.register
def _(family: families.MultivariateNormal, params: Tensor, units: int) -> Distribution:
    loc = params[..., :units]
    # The entries of the factor are picked by index: keras.ops may run on
    # another backend than TensorFlow.
    index = np.zeros((units, units), "int32")
    index[np.diag_indices(units)] = 1 + np.arange(units)
    below = np.tril_indices(units, -1)
    index[below] = 1 + units + np.arange(len(below[0]))
    entries = tf.concat([tf.zeros_like(loc[..., :1]), params[..., units:]], -1)
    return tfd.MultivariateNormalTriL(loc, tf.gather(entries, index, axis=-1))


@distribution.register
def _(family: families.Bernoulli, params: Tensor, units: int) -> Distribution:
    kind = "logits" if family.from_logits else "probs"
    return tfd.Independent(tfd.Bernoulli(**{kind: params}, dtype=params.dtype), 1)


@distribution.register
def _(family: families.Categorical, params: Tensor, units: int) -> Distribution:
    kind = "logits" if family.from_logits else "probs"
    return tfd.OneHotCategorical(**{kind: params}, dtype=params.dtype)
