"""TensorFlow: one compiled step for all, with and without XLA.

The step is forward, backward and the Adam of the Keras that the layers belong to.
"""

import keras
import tensorflow as tf

from peers_benchmark.cases import FLIPOUT
from peers_benchmark.cases import LOCAL
from peers_benchmark.cases import PLAIN
from peers_benchmark.cases import PRODUCTS
from peers_benchmark.cases import RATE
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import STRIDE
from peers_benchmark.cases import WINDOW
from peers_benchmark.cases import Variant
from peers_benchmark.cases import model_of
from peers_benchmark.cases import our_predict
from peers_benchmark.cases import peer
from peers_benchmark.cases import size

MODES = {"no XLA": False, "XLA": True}
BASE = "Keras", "keras.layers"


def variants(case, jit_compile):
    x, y = map(tf.constant, case.data())

    def variant(loop, layers, estimator, model, optimizer, predicts=True):
        predict = passes(model, x, case.samples, estimator == PLAIN)
        return Variant(
            loop,
            layers,
            estimator,
            size(model.trainable_variables),
            compiled_step(model, optimizer, x, y, jit_compile),
            predict if predicts else None,
        )

    adam = keras.optimizers.Adam
    for estimator in (PLAIN, SHARED, LOCAL, FLIPOUT):
        layers = "keras.layers" if estimator == PLAIN else "keras_uq_layers"
        model = model_of(case, estimator)
        # Our estimators draw alike in predictions.
        predicts = estimator in (PLAIN, SHARED)
        yield variant("Keras", layers, estimator, model, adam(RATE), predicts)
    predict = our_predict(model, x, case.samples)
    yield Variant("uq.predict", "keras_uq_layers", "any", 0, predict=predict)

    if tfp_layers := peer("tfp_layers"):
        adam = tfp_layers.Adam
        for layers, estimator, model in tfp_layers.models(case):
            yield variant("tf_keras", layers, estimator, model, adam(RATE))

    for count in (1, 2):
        step = products(case, x, y, count, jit_compile)
        yield Variant("TensorFlow", f"{count} a layer", PRODUCTS, 0, step)


def compiled_step(model, optimizer, x, y, jit_compile):
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
            loss = tf.add_n([loss, *model.losses])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return lambda: step().numpy()


def passes(model, x, samples, plain):
    """All passes in one loop, of plain layers on other inputs each."""
    shifts = tf.linspace(0.0, 1e-3, samples)

    @tf.function
    def run():
        return tf.map_fn(lambda shift: model(x + shift if plain else x), shifts)

    return lambda: run().numpy()


def products(case, x, y, count, jit_compile):
    """Forward and backward of `count` linear networks, without bias and activation."""
    kernels = case.kernels(lambda *sizes: (WINDOW, WINDOW, *sizes))
    networks = [[tf.Variable(kernel) for kernel in kernels] for _ in range(count)]

    def linear(h, kernel):
        if len(kernel.shape) == 4:
            return tf.nn.conv2d(h, kernel, STRIDE, "VALID")
        return tf.reshape(h, (case.batch, -1)) @ kernel

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = 0.0
            for network in networks:
                h = x
                for kernel in network:
                    h = linear(h, kernel)
                loss += tf.reduce_sum(h * y)
        return loss, tape.gradient(loss, networks)

    return lambda: step()[0].numpy()
