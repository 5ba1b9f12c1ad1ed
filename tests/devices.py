"""One training pass of a layer, as it is or compiled, on any backend.

Shared by `test_devices.py` and `benchmarks/device_check.py`.
"""

import keras
import numpy as np
from backend import to_numpy
from keras import ops
from layer_cases import CASES

from keras_uq_layers.testing import generic_input

BACKEND = keras.backend.backend()
# How a pass can run: Keras compiles with torch only on request, and then with
# the C++ compiler of the machine.
MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "xla"),
    "torch": ("eager",),
}[BACKEND]
# What leaves a TensorFlow graph for Python; on JAX a primitive with "callback".
HOST_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}


def one_case_a_layer():
    """Dict from the name of a public layer to its first case."""
    return {case.layer: case for case in reversed(CASES)}


def case_input(case):
    return case.expect.get("make_input", generic_input)(case.input_shape)


def built(case, **kwargs):
    """The layer of a case in a built model."""
    model = keras.Sequential([case.make(**kwargs)])
    model(case_input(case))
    return model


def seed_states(model):
    layers = model._flatten_layers()
    return [g.state for layer in layers for g in layer._seed_generators]


def run(model, x, mode):
    """The output, the loss and the gradients of one pass, as NumPy arrays.

    The loss is the mean square of the output and what the layers add to it.
    The noise stream is where it was when this returns.
    """
    states = [(state, to_numpy(state)) for state in seed_states(model)]
    step, arguments = prepared(model, x, mode)
    output, loss, gradients = step(*arguments)
    for state, value in states:
        state.assign(value)
    return to_numpy(output), to_numpy(loss), [to_numpy(g) for g in gradients]


def prepared(model, x, mode):
    """The pass as a function of tensors, and the tensors."""
    return _PREPARE[BACKEND](model, x, mode)


def _mean_square(output):
    return ops.mean(ops.square(ops.cast(output, "float32")))


def _tensorflow(model, x, mode):
    import tensorflow as tf

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = model(x, training=True)
            losses = [tf.cast(loss, "float32") for loss in model.losses]
            loss = tf.add_n([_mean_square(output), *losses])
        variables = [v.value for v in model.trainable_variables]
        return output, loss, tape.gradient(loss, [x, *variables])

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    return step, (tf.convert_to_tensor(x),)


def _jax(model, x, mode):
    import jax

    def loss_and_output(trainable, x, others):
        output, _, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return _mean_square(output) + sum(losses), output

    def step(trainable, x, others):
        differentiate = jax.value_and_grad(loss_and_output, (0, 1), has_aux=True)
        (loss, output), (weights, inputs) = differentiate(trainable, x, others)
        return output, loss, [inputs, *weights]

    values = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    step = jax.jit(step) if mode == "xla" else step
    return step, (values, ops.convert_to_tensor(x), others)


def _torch(model, x, mode):
    import torch

    def step(x):
        output = model(x, training=True)
        loss = _mean_square(output) + sum(model.losses)
        variables = [v.value for v in model.trainable_variables]
        return output, loss, torch.autograd.grad(loss, [x, *variables])

    return step, (ops.convert_to_tensor(x).requires_grad_(),)


_PREPARE = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def host_calls(model, x):
    """Names of the operations of a compiled pass that run in Python."""
    step, arguments = prepared(model, x, MODES[-1])
    if BACKEND == "tensorflow":
        graph = step.get_concrete_function(*arguments).graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return sorted({node.op for node in nodes} & HOST_OPS)
    if BACKEND == "jax":
        import jax

        words = str(jax.make_jaxpr(step)(*arguments)).split()
        return sorted({word for word in words if "callback" in word})
    return []


def difference(a, b):
    """The largest difference of two passes, relative to 1 + the value."""
    pairs = zip((*a[:2], *a[2]), (*b[:2], *b[2]), strict=True)
    return max(float(np.max(np.abs(p - q) / (1 + np.abs(p)))) for p, q in pairs)


def is_finite(result):
    return all(np.isfinite(array).all() for array in (*result[:2], *result[2]))
