"""Checks that any Keras layer should pass, see `check_layer`.

A failed check is an `AssertionError` that names the check.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor

_RNG_SEED = 20240229

Make: TypeAlias = Callable[..., keras.layers.Layer]
MakeInput: TypeAlias = Callable[[tuple[int, ...]], Array]


def generic_input(shape: tuple[int, ...], seed: int = _RNG_SEED) -> Array:
    """Inputs without structure: normal numbers, never zeros.

    Args:
        shape: Shape of the array.
        seed: Integer seed.

    Returns:
        A float32 array.
    """
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def check_layer(
    make: Make,
    input_shape: tuple[int, ...] = (5, 3),
    *,
    make_input: MakeInput = generic_input,
    trainable: int | None = None,
    non_trainable: int | None = None,
    seeds: int = 0,
    losses: int = 0,
    half_precision_output: bool = True,
    time_distributed: bool = True,
    jit_compile: bool = True,
) -> None:
    """Checks that a layer works in everything that users of Keras do with layers.

    - The config goes through JSON and back.
    - Symbolic shapes and dtypes equal eager ones, for an unknown batch size,
      too; batches of 0 and 1 work.
    - The layer works in a Sequential and a Functional model, and in
      `TimeDistributed` in a nested model.
    - A saved `.keras` file and `.weights.h5` give the same output; a random
      layer continues its stream.
    - One step of `fit`, with and without XLA, moves every trainable weight by
      a finite amount. (On JAX with XLA only: there nobody trains without it.)
    - Mixed precision and float64 give outputs of the right dtype.
    - The same seed gives the same output.
    - The counts of weights, seed generators and losses are as expected.

    Args:
        make: Function `(**kwargs)` that returns a new layer; `kwargs` are
            those of `keras.layers.Layer`, such as `dtype`.
        input_shape: Shape of an input, batch size included.
        make_input: Function from a shape to an input array.
        trainable: Expected number of trainable weights, or None.
        non_trainable: Expected number of other weights, seeds not counted.
        seeds: Expected number of seed generators.
        losses: Expected number of losses of one call.
        half_precision_output: Whether a mixed policy gives half precision
            outputs. False: they are float32, as for heads.
        time_distributed: Whether the layer works in `TimeDistributed`.
        jit_compile: Whether to train with XLA, too; PyTorch has none.

    Raises:
        AssertionError: A check failed.

    Example:

    >>> uq.testing.check_layer(
    ...     lambda **kwargs: keras.layers.Dense(2, **kwargs), jit_compile=False
    ... )
    """
    x = make_input(tuple(input_shape))
    _check_config(make)
    _check_symbolic(make, x)
    _check_batches(make, x, make_input)
    _check_models(make, x)
    _check_saving(make, x)
    # PyTorch has no XLA: there Keras takes `torch.compile`, minutes of C++.
    xla = jit_compile and keras.backend.backend() != "torch"
    _check_training(make(), x, xla)
    if time_distributed:
        # Without XLA, JAX would compile each operation of the step by itself.
        _check_inside_other_layers(make, x, xla and keras.backend.backend() == "jax")
    elif xla and keras.backend.backend() != "jax":
        _check_training(make(), x, False)
    _check_precision(make, x, half_precision_output)
    if seeds:
        _check_seeds(make, x)
    _check_counts(make, x, trainable, non_trainable, seeds, losses)


def _to_numpy(tensor: Tensor) -> Array:
    return np.asarray(ops.convert_to_numpy(tensor))


def _dtype(tensor: Tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _same(
    a: Tensor, b: Tensor, what: str, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    np.testing.assert_allclose(
        _to_numpy(a), _to_numpy(b), rtol=rtol, atol=atol, err_msg=what
    )


def _check_config(make: Make) -> None:
    layer = make()
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.dumps(again.get_config(), sort_keys=True) == json.dumps(
        config, sort_keys=True
    ), "the config changes on its way through `from_config`"
    serialized = keras.saving.serialize_keras_object(layer)
    restored = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(restored) is type(layer)


def _check_symbolic(make: Make, x: Array) -> None:
    layer = make()
    output = layer(x)
    spec = layer.compute_output_spec(
        keras.KerasTensor((None, *x.shape[1:]), dtype="float32")
    )
    assert tuple(spec.shape) == (None, *output.shape[1:]), (
        f"symbolic shape {spec.shape}, eager shape {tuple(output.shape)}"
    )
    assert _dtype(spec) == _dtype(output), (
        f"symbolic dtype {_dtype(spec)}, eager dtype {_dtype(output)}"
    )
    shape = layer.compute_output_shape((None, *x.shape[1:]))
    assert tuple(shape) == tuple(spec.shape)


def _check_batches(make: Make, x: Array, make_input: MakeInput) -> None:
    layer = make()
    layer(x)
    for size in (0, 1):
        output = layer(make_input((size, *x.shape[1:])))
        assert output.shape[0] == size
        assert np.isfinite(_to_numpy(output)).all()
        for loss in layer.losses:
            assert np.isfinite(_to_numpy(loss)).all(), f"loss at batch size {size}"


def _check_models(make: Make, x: Array) -> None:
    inputs = keras.Input(x.shape[1:])
    functional = keras.Model(inputs, make()(inputs))
    sequential = keras.Sequential([make()])
    for output in (functional(x), sequential.predict(x, verbose=0)):
        assert output.shape[0] == len(x)
        assert np.isfinite(_to_numpy(output)).all()


def _check_inside_other_layers(make: Make, x: Array, jit_compile: bool) -> None:
    """A layer in `TimeDistributed` in a nested model: trained, saved, loaded."""
    steps = 2
    x = np.repeat(x[:, None], steps, axis=1)
    nested = keras.Sequential([keras.layers.TimeDistributed(make())])
    output = nested(x)
    assert tuple(output.shape[:2]) == (len(x), steps)
    model = _check_training(nested, x, jit_compile)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
    _same(loaded(x), model(x), "output of the nested model after loading it")


def _check_saving(make: Make, x: Array) -> None:
    model = keras.Sequential([make()])
    model(x)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        weights = os.path.join(folder, "model.weights.h5")
        model.save(path)
        model.save_weights(weights)
        loaded = keras.saving.load_model(path)
        filled = keras.Sequential([make()])
        filled(x)
        filled.load_weights(weights)
    expected = _to_numpy(model(x))
    _same(loaded(x), expected, "output after loading the .keras file")
    _same(filled(x), expected, "output after loading the .weights.h5 file")


def _check_training(
    layer: keras.layers.Layer, x: Array, jit_compile: bool
) -> keras.Model:
    """One step of training; returns the model that it trained."""
    if not layer.built:
        layer.build(x.shape)
    # Where nothing is trained, the gradient with respect to the input is.
    entry = keras.layers.Dense(x.shape[-1], kernel_initializer="identity")
    model = keras.Sequential([layer] if layer.trainable_weights else [entry, layer])
    target = generic_input(tuple(layer.compute_output_shape(x.shape)), seed=1)
    model.compile(keras.optimizers.SGD(1e-2), loss="mse", jit_compile=jit_compile)
    model.build(x.shape)
    before = {v.path: _to_numpy(v) for v in model.trainable_variables}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of what is asserted below
        logs = model.train_on_batch(x, target, return_dict=True)
    assert np.isfinite(logs["loss"]), f"loss is {logs['loss']} (jit={jit_compile})"
    for variable in model.trainable_variables:
        after = _to_numpy(variable)
        assert np.isfinite(after).all(), f"{variable.path} is not finite after a step"
        assert (after != before[variable.path]).any(), (
            f"{variable.path} has no gradient (jit={jit_compile})"
        )
    return model


def _check_precision(make: Make, x: Array, half_precision_output: bool) -> None:
    for policy in ("mixed_float16", "mixed_bfloat16", "float64"):
        output = make(dtype=policy)(x)
        wide = "float64" if policy == "float64" else "float32"
        narrow = policy.removeprefix("mixed_")
        expected = narrow if half_precision_output else wide
        if keras.backend.backend() == "jax" and policy == "float64":
            continue  # float32 unless JAX_ENABLE_X64 is set
        assert _dtype(output) == expected, (
            f"output is {_dtype(output)} under {policy}, expected {expected}"
        )
        assert np.isfinite(_to_numpy(output).astype("float64")).all()


def _check_seeds(make: Make, x: Array) -> None:
    config = make().get_config()
    assert "seed" in config, "a random layer needs a `seed` argument"
    outputs = []
    weights = None
    for compiled in (False, False, True):
        layer = type(make()).from_config({**config, "seed": 7})
        model = keras.Sequential([layer])
        model.build(x.shape)
        # The seed is that of the draws, not of the initial weights.
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile(run_eagerly=not compiled, jit_compile=False)
        outputs.append(model.predict(x, verbose=0))
    _same(outputs[0], outputs[1], "the same seed must give the same output")
    _same(outputs[0], outputs[2], "eager and graph must draw the same")


def _check_counts(
    make: Make,
    x: Array,
    trainable: int | None,
    non_trainable: int | None,
    seeds: int,
    losses: int,
) -> None:
    layer = make()
    layer(x)
    found = {
        "trainable weights": (len(layer.trainable_weights), trainable),
        "non-trainable weights": (len(layer.non_trainable_weights), non_trainable),
        "seed generators": (_count_seeds(layer), seeds),
        "losses": (len(layer.losses), losses),
    }
    for what, (count, expected) in found.items():
        assert expected is None or count == expected, (
            f"{count} {what}, expected {expected}"
        )


def _count_seeds(layer: keras.layers.Layer) -> int:
    inner = _keras.all_layers(layer)
    return len({id(g) for part in inner for g in _keras.seed_generators_of(part)})
