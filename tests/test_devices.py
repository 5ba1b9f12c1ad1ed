"""Every public layer on any device: placed, compiled, traced once, never in Python."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import devices
import keras
import numpy as np
import pytest
from keras import ops
from layer_cases import public_layers

import keras_uq_layers as uq

CASE_OF = devices.one_case_a_layer()
on_tensorflow = pytest.mark.skipif(
    devices.BACKEND != "tensorflow", reason="placement by name is TensorFlow's"
)
compiling = pytest.mark.skipif(
    len(devices.MODES) == 1, reason="Keras does not trace on this backend"
)


def test_no_layer_is_left_out():
    assert set(CASE_OF) == public_layers()


def test_the_device_check_leaves_no_layer_out():
    script = Path(__file__).parents[1] / "benchmarks" / "device_check.py"
    assert set(runpy.run_path(str(script))["TWINS"]) == public_layers()


@pytest.mark.parametrize("name", CASE_OF)
def test_a_compiled_pass_is_the_eager_one(name):
    case = CASE_OF[name]
    model, x = devices.built(case), devices.case_input(case)
    eager = devices.run(model, x, "eager")
    assert devices.is_finite(eager)
    for mode in devices.MODES[1:]:
        compiled = devices.run(model, x, mode)
        assert devices.is_finite(compiled)
        if (devices.BACKEND, mode) == ("tensorflow", "xla") and "seeds" in case.expect:
            # XLA has a stream of its own, which is the same each time.
            eager, compiled = compiled, devices.run(model, x, mode)
        assert devices.difference(eager, compiled) < 1e-5


# One model of all layers: what one of them breaks, the whole breaks.


def all_layers():
    """A model with an input and an output for each layer, and its inputs."""
    rows = 4
    inputs, outputs, arrays = [], [], []
    for case in CASE_OF.values():
        make_input = case.expect.get("make_input", devices.generic_input)
        arrays.append(make_input((3 * rows, *case.input_shape[1:])))
        inputs.append(keras.Input(case.input_shape[1:]))
        output = keras.layers.Flatten()(case.make()(inputs[-1]))
        outputs.append(keras.layers.Lambda(ops.tanh)(output))
    return keras.Model(inputs, keras.layers.Concatenate()(outputs)), arrays, rows


class Counted(keras.callbacks.Callback):
    """Counts how often Python runs a step: once for each trace."""

    def __init__(self, model):
        self.traces = 0
        step = model.train_step

        def counted(*args):
            self.traces += 1
            return step(*args)

        model.train_step = counted


@compiling
@pytest.mark.parametrize("mode", devices.MODES[1:])
def test_one_trace_in_a_fit(mode):
    model, x, rows = all_layers()
    y = np.zeros((3 * rows, *model.output_shape[1:]), "float32")
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=mode == "xla")
    counted = Counted(model)
    # The warm-up changes a weight of the KL between the epochs.
    warmup = uq.callbacks.KLWarmup(2)
    logs = model.fit(x, y, rows, epochs=3, callbacks=[warmup], verbose=0).history
    assert counted.traces == 1
    assert np.isfinite(logs["loss"]).all()


@compiling
def test_the_count_of_traces_can_fail():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    counted = Counted(model)
    x = devices.generic_input((5, 3))
    model.fit(x, x[:, :1], batch_size=2, verbose=0)
    assert counted.traces > 1  # the last batch has another shape


@compiling
def test_nothing_runs_in_python():
    for name, case in CASE_OF.items():
        model, x = devices.built(case), devices.case_input(case)
        assert not devices.host_calls(model, x), name


class InPython(keras.layers.Layer):
    """A layer that leaves the graph."""

    def call(self, x):
        if devices.BACKEND == "tensorflow":
            import tensorflow as tf

            return tf.ensure_shape(tf.py_function(np.tanh, [x], "float32"), x.shape)
        import jax

        jax.debug.callback(np.shape, x)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


@compiling
def test_the_check_for_python_can_fail():
    model = keras.Sequential([InPython(), keras.layers.Dense(1)])
    x = devices.generic_input((2, 3))
    model(x)
    found = "".join(devices.host_calls(model, x))
    assert "EagerPyFunc" in found or "callback" in found


PLACED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
tf.config.set_soft_device_placement(False)
import devices
names = [d.name for d in tf.config.list_logical_devices() if d.device_type != "CPU"]
for name in [*names, "/device:CPU:1"]:
    for layer, case in devices.one_case_a_layer().items():
        x = tf.constant(devices.case_input(case))
        with tf.device(name):
            model = devices.built(case)
            x = tf.identity(x)
            for mode in ("eager", "graph"):
                step, arguments = devices.prepared(model, x, mode)
                output, loss, gradients = step(*arguments)
                found = [output, loss, *gradients, *(v.value for v in model.variables)]
                assert all(t.device.endswith(name) for t in found), (layer, name, mode)
print("placed")
"""


@on_tensorflow
def test_a_layer_stays_on_the_device_it_is_given():
    """On a second device, without leave to move an operation elsewhere."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PLACED],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "placed" in done.stdout
