"""Repeated passes of a model over data."""

import contextlib
import random
import threading
import types
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families import Family
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction import mixture
from keras_uq_layers.prediction.classes import ClassMoments
from keras_uq_layers.prediction.classes import ClassPrediction
from keras_uq_layers.prediction.moments import Moments
from keras_uq_layers.prediction.prediction import Prediction
from keras_uq_layers.prediction.sampler import Plan
from keras_uq_layers.prediction.sampler import Sampler
from keras_uq_layers.prediction.sampler import make_plan
from keras_uq_layers.prediction.sampler import rows_at_a_time
from keras_uq_layers.reading import Emitted
from keras_uq_layers.reading import family_of

_CACHE = "_uq_predict_cache"
_CACHED_SAMPLERS = 8
_DEFAULT_SAMPLES = 100
# What is kept of the params of all passes.
Summary = Callable[[Tensor], dict[str, Tensor]]
# Rows on which a model is tried before the first prediction.
_TRIED_ROWS = 8


def predict(
    model: keras.Model,
    x: Any,
    family: Identifier = None,
    samples: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    verbose: str | int = "auto",
    *,
    steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    keep_samples: bool = True,
) -> Any:
    """Predicts with uncertainty: averages repeated passes and splits the variance
    into aleatoric and epistemic parts.

    ```
    p(y | x) = mean over s of p(y | params_s(x)),   s = 1 ... samples
    mean     = mean over s of mean_s
    variance = mean over s of variance_s  +  variance over s of mean_s
                    aleatoric                    epistemic
    ```

    The model runs `samples` times, with `training=False`, in one loop in the
    graph (on JAX and PyTorch several passes at once where they are small). It may
    be any Keras model: one with variational layers or `MCDropout`, an `Ensemble`,
    whose members are the components, or a model that knows nothing of this
    library. A model without randomness runs once and has no epistemic part.

    The family says how the output is read. It is that of the model's head, else
    of its compiled loss. The softmax, the sigmoid and the cross entropies of
    Keras mean classes. The output of any other model, such as a `Dense(1)` that
    was trained with squared errors, is the prediction itself, `families.Point`.
    The family that was chosen is in the result and its `repr`.

    Whether a model is random is found out by running it on a few rows, before
    the first prediction. Layers that are random in training only, such as
    `keras.layers.Dropout`, are deterministic here, unless the model calls them
    with `training=True`: then they are random here, although `model.predict`
    of Keras 3 ignores that argument in a functional model. Random numbers may
    also come from elsewhere, such as `tf.random` or NumPy. The model then runs
    eagerly, pass by pass, which is slow, and `seed` does not govern them.
    Recurrent layers of Keras with a dropout draw masks that they use in training
    only: such a model runs `samples` times, with equal passes. `samples=1` is
    enough there.

    Pass `s` uses the same random numbers for every batch, so that with random
    weights it is one function, whatever the batch size; for layers with noise
    per example (`MCDropout`) the result depends on the batch size, its
    distribution does not. The same seed gives the same result, and the first
    passes of a longer run are those of a shorter one, up to rounding. The weights
    of the model and the states of its seed generators stay as they are.

    In Functional and Sequential models the part in front of the first random
    layer runs once per batch instead of once per pass. A nested model counts
    as one layer; a subclassed model runs as a whole in each pass. The first
    call traces the graph (a second or so); later ones with the same number of
    samples reuse it, so that, as with `model.predict`, attributes of layers
    that are changed in between (not weights) go unnoticed.

    Memory, in numbers of float32: a batch needs `batch_size * samples * P * D`
    beside the activations of a pass (on TensorFlow of up to ten passes at a time;
    on JAX and PyTorch so many small ones at once that their widest activation has
    2^19 entries at most in all of them). The result needs `N * samples * P * D`,
    and twice that while Keras joins the batches (on TensorFlow three times: it
    copies what it has joined), or `3 * N * D` with `keep_samples=False`.

    A row with a NaN in one of its float inputs, and a row whose output is no
    distribution of the family, is answered by NaN throughout. A warning tells
    how many there are.

    Args:
        model: A Keras model with an output `(N, ..., P * D)`, or with several in
            a dict, list or tuple.
        x: Inputs as for `model.predict`: an array, a list or dict of arrays, a
            `tf.data.Dataset`, a generator (with `steps`), a `PyDataset`.
        family: Name or object of the family of the output. None: that of the
            model's head, else of its compiled loss, else the one that the last
            activation or Keras's loss stands for (a softmax, a sigmoid, a cross
            entropy). A family that contradicts the model is an error.
        samples: Number of passes, a positive integer. None: 100 for a model
            that is random, else 1. A number above 1 for a model without
            randomness, which runs once all the same, is warned of.
        batch_size: Rows at a time. None: up to 8192, fewer where activations or
            the params of all passes are large, 256 where the sizes of activations
            are not known. Only for arrays.
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
        A `Prediction`, for families of classes a `ClassPrediction`. With
        `keep_samples=False`, `Moments` or `ClassMoments`. For a model with
        several outputs, the same structure of these; their passes belong
        together.

    Raises:
        ValueError: `samples` is not a positive integer, `x` is empty, the
            family is not known, or the output of the model does not fit it.

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
    if samples is not None:
        samples = arguments.positive_int("samples", samples)
    if batch_size is not None:
        batch_size = arguments.positive_int("batch_size", batch_size)
    keep_samples = arguments.boolean("keep_samples", keep_samples)
    x = tree.map_structure(_as_array, x)
    leaves = tree.flatten(x)
    arrays = all(_is_array(leaf) for leaf in leaves)
    if not leaves or not (arrays or _yields_batches(x)):
        raise arguments.error("x", "arrays, or a dataset or generator of batches", x)
    if arrays and _rows(x) == 0:
        raise _empty()
    x, plan, output = _plan(model, x, arrays)
    read_by = tuple(tree.flatten(family_of(model, family, output)))
    emitted = tree.flatten(output)
    for one, tensor in zip(read_by, emitted, strict=True):
        _check_fit(model, one, tensor.shape)
        if not keep_samples:
            # A family without moments says so here, not from within the graph.
            one.variance(ops.ones((1, tensor.shape[-1])))
    if samples is not None and samples > 1 and not plan.random:
        _warn_of_no_randomness(model, samples)
    passes = (samples or _DEFAULT_SAMPLES) if plan.random else 1
    if arrays and batch_size is None:
        width = sum(tensor.shape[-1] for tensor in emitted)
        batch_size = rows_at_a_time(model, passes, width)
    fits = arrays and _rows(x) <= (batch_size or 0)
    one_batch = fits and steps is None and callbacks is None
    keep: Summary = _as_they_are if one_batch else _batch_first
    summaries = [keep if keep_samples else _moments_of(family) for family in read_by]
    key = (passes, id(plan), read_by, keep_samples, one_batch)
    with _sampler(model, passes, plan, summaries, key) as sampler:
        sampler.seed(random.randint(0, 2**31 - 1) if seed is None else seed)
        if one_batch:
            # Keras takes tens of milliseconds to set up its pipeline.
            found = sampler.predict_on_batch(_in_float_type(x))
        else:
            found = sampler.predict(
                x,
                batch_size=batch_size,
                steps=steps,
                callbacks=callbacks,
                verbose=verbose,
            )
    if found is None or len(found["unknown"]) == 0:
        raise _empty()
    unknown = np.asarray(found["unknown"])
    if unknown.any():
        warnings.warn(
            f"`x` holds NaN in {np.count_nonzero(unknown)} of {len(unknown)} "
            "example(s). All that is predicted for them is NaN.",
            stacklevel=2,
        )
    predictions = [
        _prediction(summary, unknown, one)
        if keep_samples
        else _moments(summary, unknown, one, passes)
        for summary, one in zip(found["outputs"], read_by, strict=True)
    ]
    return tree.pack_sequence_as(output, predictions)


def _empty() -> ValueError:
    return ValueError("`x` must hold at least one example. Received: no rows")


def _as_array(leaf: Any) -> Any:
    """A table of pandas as an array; all else as it is."""
    if hasattr(leaf, "__array__") and not _is_array(leaf):
        return np.asarray(leaf)
    return leaf


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) or ops.is_tensor(leaf)


def _yields_batches(x: Any) -> bool:
    one = not isinstance(x, str | list | tuple | dict)
    return one and (hasattr(x, "__iter__") or hasattr(x, "__getitem__"))


def _rows(x: Any) -> int:
    shape = tree.flatten(x)[0].shape
    if len(shape) == 0:
        raise ValueError("`x` must have a batch axis. Received: x of shape ()")
    return shape[0]


def _in_float_type(x: Any) -> Any:
    """What the input pipeline of Keras does with floats."""

    def cast(leaf):
        is_float = keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(leaf.dtype)
        )
        return ops.cast(leaf, keras.config.floatx()) if is_float else leaf

    return tree.map_structure(cast, x)


def _first_rows(x: Any) -> tuple[Any, Any]:
    """The data, and the first rows of the inputs in it."""
    if isinstance(x, types.GeneratorType):
        first = next(x, None)
        if first is None:
            raise _empty()
        x = _chained(first, x)
    else:
        first = next(iter(x), None)
        if first is None:
            raise _empty()
    inputs, *_ = keras.utils.unpack_x_y_sample_weight(first)
    return x, inputs


def _chained(first: Any, rest: Any) -> Any:
    # Not `itertools.chain`: Keras takes a generator only.
    yield first
    yield from rest


def _plan(model: keras.Model, x: Any, arrays: bool) -> tuple[Any, Plan, Any]:
    """The data, how the model is run on it, and an `Emitted` for each output."""
    cache = _cache_of(model)
    signature = _signature(x) if arrays else None
    with cache.lock:
        found = cache.plans.get((_parts_of(model), signature))
        if model.built and found is not None and _is_in_use(found[0], model):
            return x, *found
        x, plan, emitted = _new_plan(model, x, arrays)
        cache.plans = {(_parts_of(model), signature): (plan, emitted)}
    return x, plan, emitted


def _is_in_use(plan: Plan, model: keras.Model) -> bool:
    """Whether the seed generators of a plan are those from which a pass draws.

    Each thread has a global generator of its own, and
    `keras.utils.set_random_seed` makes a new one.
    """
    states = {id(generator.state) for generator in _keras.seed_generators(model)}
    return all(id(state) in states for state in plan.seed_states)


def _new_plan(model: keras.Model, x: Any, arrays: bool) -> tuple[Any, Plan, Any]:
    rows = x
    if not arrays:
        x, rows = _first_rows(x)
    symbolic = getattr(model, "inputs", None)
    fixed = symbolic[0].shape[0] if model.built and symbolic else None
    few = tree.map_structure(lambda leaf: leaf[: fixed or _TRIED_ROWS], rows)
    few = _in_float_type(tree.map_structure(ops.convert_to_tensor, few))
    _build(model, few)
    plan, output = make_plan(model, few)
    for tensor in tree.flatten(output):
        if not ops.is_tensor(tensor):
            raise ValueError(
                "`model` must emit tensors. Received: an output of type "
                f"{type(tensor).__name__}"
            )
    emitted = tree.map_structure(Emitted.of, output)
    return x, plan, emitted


def _parts_of(model: keras.Model) -> tuple:
    layers = tuple(id(layer) for layer in _keras.all_layers(model))
    return layers, tuple(id(g) for g in _keras.own_seed_generators(model))


def _signature(x: Any) -> tuple:
    return tuple((leaf.shape[1:], str(leaf.dtype)) for leaf in tree.flatten(x))


def _build(model: keras.Model, few: Any) -> None:
    if model.built:
        return
    if isinstance(model, keras.Sequential):
        model.build((None, *few.shape[1:]))
        return
    # Layers may own seed generators before they are built.
    states = [(g.state, ops.copy(g.state.value)) for g in _keras.seed_generators(model)]
    model(few)
    for state, value in states:
        state.assign(value)


def _check_fit(model: keras.Model, family: Family, shape: tuple) -> None:
    try:
        if len(shape) < (2 if getattr(model, "member_axis", None) is None else 3):
            raise ValueError("The output must have shape (batch, ..., P * D)")
        family.units(shape[-1])
    except ValueError as error:
        raise ValueError(
            f"`family` must fit the output of `model`. {error}. "
            f"Received: family={family!r}, output of shape {shape}"
        ) from error


def _warn_of_no_randomness(model: keras.Model, samples: int) -> None:
    if getattr(model, "member_axis", None) is None:
        warnings.warn(
            f"The model {model.name!r} is not random at inference: it runs once "
            f"instead of {samples} times, and the epistemic part is 0. Dropout, for "
            "example, is random here as `uq.MCDropout` only, or in the model that "
            "`uq.to_mc_dropout` returns.",
            stacklevel=3,
        )


@contextlib.contextmanager
def _sampler(
    model: keras.Model,
    samples: int,
    plan: Plan,
    summaries: list[Summary],
    key: tuple,
) -> Iterator[Sampler]:
    """Lends a sampler of this model, of an earlier call with this key if one is free.

    Threads that predict at once have a sampler each, since it holds the seeds.
    """
    cache = _cache_of(model)
    with cache.lock:
        free = [sampler for used_for, sampler in cache.samplers if used_for == key]
        if free:
            sampler = free[-1]
            cache.samplers.remove((key, sampler))
    if not free:
        sampler = Sampler(model, samples, plan, summaries)
    yield sampler
    with cache.lock:
        cache.samplers = [*cache.samplers, (key, sampler)][-_CACHED_SAMPLERS:]


class _Cache:
    """Not a dict: Keras would look for layers in it when it saves the model."""

    def __init__(self) -> None:
        # Reentrant: a generator of batches may call `predict`, too.
        self.lock = threading.RLock()
        self.plans: dict[tuple, tuple[Plan, Any]] = {}
        # Those that no call uses now, and for what; the last one used comes last.
        self.samplers: list[tuple[tuple, Sampler]] = []

    def __deepcopy__(self, memo: dict) -> "_Cache":
        return _Cache()

    def __reduce__(self) -> tuple:
        return _Cache, ()


def _cache_of(model: keras.Model) -> _Cache:
    # In a plain dict of the instance: Keras neither tracks nor saves it, and
    # it is garbage with the model.
    return model.__dict__.setdefault(_CACHE, _Cache())


def _batch_first(params: Tensor) -> dict[str, Tensor]:
    """Params in the layout in which Keras joins batches."""
    return {"batch_first": ops.swapaxes(params, 0, 1)}


def _as_they_are(params: Tensor) -> dict[str, Tensor]:
    """Params of the only batch: two transpositions less."""
    return {"passes_first": params}


def _moments_of(family: Family) -> Summary:
    def summary(params):
        parts = mixture.total_variance(family.mean(params), family.variance(params))
        found = dict(zip(("mean", "aleatoric", "epistemic"), parts, strict=True))
        if isinstance(family, ClassFamily):
            found["entropy"] = ops.mean(family.entropy(params), axis=0)
        return {**found, "known": ops.all(family.in_domain(params), axis=0)}

    return summary


def _prediction(
    output: dict[str, Tensor], unknown: np.ndarray, family: Family
) -> Prediction:
    if "passes_first" in output:
        passes = output["passes_first"]
    else:
        passes = np.array(np.swapaxes(output["batch_first"], 0, 1))
    if unknown.any():
        passes[:, unknown] = np.nan
    kind = ClassPrediction if isinstance(family, ClassFamily) else Prediction
    return kind(passes, family, copy=False)


def _moments(
    output: dict[str, Tensor], unknown: np.ndarray, family: Family, passes: int
) -> Moments:
    known = np.asarray(output["known"])
    outside = ~known & ~unknown.reshape(-1, *[1] * (known.ndim - 1))
    mixture.warn_of_rows(outside, family, stacklevel=4)
    of_classes = isinstance(family, ClassFamily)
    # By name: on JAX a dict comes back in the order of its keys.
    names = ["mean", "aleatoric", "epistemic", *["entropy"] * of_classes]
    found = [to_numpy(output[name]) for name in names]
    for value in found:
        value[~known] = np.nan
        value[unknown] = np.nan
    kind: Any = ClassMoments if of_classes else Moments
    return kind(*found, family, passes)
