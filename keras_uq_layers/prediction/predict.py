import random

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import arguments
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.prediction.prediction import ClassPrediction
from keras_uq_layers.prediction.prediction import Prediction
from keras_uq_layers.prediction.prediction import check_density
from keras_uq_layers.prediction.sampler import Sampler
from keras_uq_layers.prediction.sampler import rows_at_a_time
from keras_uq_layers.prediction.sampler import seed_generators
from keras_uq_layers.reading import family_of

_CACHE = "_uq_predict_cache"
_CACHED_SAMPLERS = 4


def predict(
    model,
    x,
    family=None,
    samples=100,
    batch_size=None,
    seed=None,
    verbose="auto",
    *,
    steps=None,
    callbacks=None,
    keep_samples=True,
):
    """What a model predicts, and with which uncertainty of which kind.

    ```
    p(y | x) = mean over s of p(y | params_s(x)),   s = 1 ... samples
    mean     = mean over s of mean_s
    variance = mean over s of variance_s  +  variance over s of mean_s
                    aleatoric                    epistemic
    ```

    The model runs `samples` times, with `training=False`, in one loop in the
    graph. Works for any Keras model whose output is a params tensor: with
    variational layers or `MCDropout`, an `Ensemble` (whose members are the
    components), or a model without randomness, which runs once and has no
    epistemic part. Layers that are random in training only, such as
    `keras.layers.Dropout`, count as deterministic.

    Pass `s` uses the same random numbers for every batch, so that with random
    weights it is one function, whatever the batch size; for layers with noise
    per example (`MCDropout`) the result depends on the batch size, its
    distribution does not. The same seed gives the same result, and the first
    passes of a longer run are those of a shorter one. The weights of the
    model and the states of its seed generators stay as they are.

    In Functional and Sequential models the part in front of the first random
    layer runs once per batch instead of once per pass. A nested model counts
    as one layer; a subclassed model runs as a whole in each pass. The first
    call traces the graph (a second or so); later ones with the same number of
    samples reuse it, so that, as with `model.predict`, attributes of layers
    that are changed in between (not weights) go unnoticed.

    Memory, in numbers of float32: a batch needs `batch_size * samples * P * D`
    beside the activations of a pass (of up to ten passes at a time on
    TensorFlow); the result `N * samples * P * D`, and twice that while Keras
    joins the batches (on TensorFlow three times: it copies what it has joined),
    or `3 * N * D` with `keep_samples=False`.

    Args:
        model: A Keras model with one output, `(N, ..., P * D)`.
        x: Inputs as for `model.predict`: an array, a list or dict of arrays, a
            `tf.data.Dataset`, a generator (with `steps`), a `PyDataset`.
        family: Name or object of the family of the output. None: that of the
            model's head, else of its compiled loss, else the one that the last
            activation or Keras's loss stands for (a softmax, a sigmoid, a cross
            entropy). A family that contradicts the model is an error.
        samples: Number of passes, a positive integer.
        batch_size: Rows at a time. None: up to 8192, fewer where activations
            are large, 256 where their sizes are not known. Only for arrays.
        seed: Integer seed of the passes. None: a new one each time. As any
            seed here, it stands for the same draws on one backend, and for
            others on another: their generators differ.
        verbose: `"auto"`, 0, 1 or 2, as for `model.predict`.
        steps: Number of batches to draw, as for `model.predict`.
        callbacks: Callbacks, as for `model.predict`.
        keep_samples: Whether to keep the params of every pass. Quantiles,
            intervals and log probabilities of the mixture need them all; the
            moments and entropies do not.

    Returns:
        A `Prediction`, for families of classes a `ClassPrediction`.

    Raises:
        ValueError: `samples` is not a positive integer, `x` is empty, or the
            output of the model does not fit the family.

    Example:

    >>> model = keras.Sequential(
    ...     [uq.DenseVariational(8, "tanh", kl_weight=0.01), uq.DistributionHead(1)]
    ... )
    >>> prediction = uq.predict(model, np.ones((4, 3)), samples=20, verbose=0)
    >>> prediction.mean.shape, prediction.epistemic_std.shape
    ((4, 1), (4, 1))
    >>> lower, upper = prediction.interval(0.9)

    References:
        Gal & Ghahramani, 2016, "Dropout as a Bayesian Approximation", ICML,
        arXiv:1506.02142. Kendall & Gal, 2017, "What Uncertainties Do We Need
        in Bayesian Deep Learning for Computer Vision?", NeurIPS,
        arXiv:1703.04977. Depeweg et al., 2018, "Decomposition of Uncertainty
        in Bayesian Deep Learning", ICML, arXiv:1710.07283.
    """
    if not isinstance(model, keras.Model):
        raise arguments.error("model", "a Keras model", model)
    samples = arguments.positive_int("samples", samples)
    if batch_size is not None:
        batch_size = arguments.positive_int("batch_size", batch_size)
    keep_samples = arguments.boolean("keep_samples", keep_samples)
    arrays = _is_arrays(x)
    if arrays and _rows(x) == 0:
        raise _empty()
    _build(model, x, arrays)
    family = family_of(model, family)
    sampler = _sampler(model, samples, family, keep_samples)
    sampler.seed(random.randint(0, 2**31 - 1) if seed is None else seed)
    if arrays and batch_size is None:
        batch_size = _default_batch_size(model, samples)
    options = {"steps": steps, "callbacks": callbacks, "verbose": verbose}
    if arrays and _rows(x) <= batch_size and options == _QUIET:
        # Keras takes tens of milliseconds to set up its input pipeline.
        output = sampler.predict_on_batch(_in_float_type(x))
    else:
        output = sampler.predict(x, batch_size=batch_size, **options)
    if output is None or len(output["density"]) == 0:
        raise _empty()
    check_density(family, output.pop("density"))
    kind = ClassPrediction if isinstance(family, ClassFamily) else Prediction
    if keep_samples:
        passes = np.swapaxes(output["samples"], 0, 1)
        return kind.from_checked_samples(passes, family)
    return kind.from_moments(output, family, samples)


_QUIET = {"steps": None, "callbacks": None, "verbose": 0}


def _empty():
    return ValueError("`x` must hold at least one example. Received: no rows")


def _is_arrays(x):
    return all(
        isinstance(leaf, np.ndarray) or ops.is_tensor(leaf) for leaf in tree.flatten(x)
    )


def _rows(x):
    shape = tree.flatten(x)[0].shape
    if len(shape) == 0:
        raise ValueError("`x` must have a batch axis. Received: x of shape ()")
    return shape[0]


def _in_float_type(x):
    """What the input pipeline of Keras does with floats."""

    def cast(leaf):
        is_float = keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(leaf.dtype)
        )
        return ops.cast(leaf, keras.config.floatx()) if is_float else leaf

    return tree.map_structure(cast, x)


def _build(model, x, arrays):
    if model.built:
        return
    if not arrays:
        raise ValueError(
            "`model` must be built, or `x` be arrays from which it can be: call "
            f"it on a batch first. Received: an unbuilt model {model.name!r} and "
            f"x of type {type(x).__name__}"
        )
    if isinstance(model, keras.Sequential):
        model.build((None, *x.shape[1:]))
        return
    # Layers may own seed generators before they are built.
    states = {id(g): (g, ops.copy(g.state.value)) for g in seed_generators(model)}
    model(_in_float_type(tree.map_structure(lambda leaf: leaf[:1], x)))
    for generator, state in states.values():
        generator.state.assign(state)


def _default_batch_size(model, samples):
    shape = getattr(model, "output_shape", None) or (None, 1)
    size = shape[-1] if isinstance(shape[-1], int) else 1
    return rows_at_a_time(model, samples, size)


def _sampler(model, samples, family, keep_samples):
    """The sampler of this model, from an earlier call where there was one."""
    # In a plain dict of the instance: Keras neither tracks nor saves it, and
    # it is garbage with the model.
    cache = model.__dict__.setdefault(_CACHE, _Cache())
    layers = tuple(id(layer) for layer in model._flatten_layers())
    generators = tuple(id(g) for g in seed_generators(model))
    key = (samples, family, keep_samples, layers, generators)
    if key not in cache.samplers:
        while len(cache.samplers) >= _CACHED_SAMPLERS:
            del cache.samplers[next(iter(cache.samplers))]
        if keep_samples:
            summary = _batch_first
        elif isinstance(family, ClassFamily):
            summary = _class_moments(family)
        else:
            summary = _moments(family)
        cache.samplers[key] = Sampler(model, samples, family, summary)
    return cache.samplers[key]


class _Cache:
    """Not a dict: Keras would look for layers in it when it saves the model."""

    def __init__(self):
        self.samplers = {}

    def __deepcopy__(self, memo):
        return _Cache()

    def __reduce__(self):
        return _Cache, ()


def _batch_first(params):
    return {"samples": ops.swapaxes(params, 0, 1)}


def _moments(family):
    def moments(params):
        means = family.mean(params)
        mean = ops.mean(means, axis=0)
        return {
            "mean": mean,
            "aleatoric": ops.mean(family.variance(params), axis=0),
            "epistemic": ops.mean(ops.square(means - mean), axis=0),
        }

    return moments


def _class_moments(family):
    def moments(params):
        entropy = ops.mean(family.entropy(params), axis=0)
        return {**_moments(family)(params), "entropy": entropy}

    return moments
