"""JAX: a step written by hand is the floor, and Keras's layers in a loop of JAX.

By hand means: the same mathematics in `jax.numpy`, one compiled function, Adam
included. Flax has no layers with random weights.
"""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from peers_benchmark.cases import FLIPOUT
from peers_benchmark.cases import LOCAL
from peers_benchmark.cases import PLAIN
from peers_benchmark.cases import PRODUCTS
from peers_benchmark.cases import RATE
from peers_benchmark.cases import ROWS
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import STRIDE
from peers_benchmark.cases import WINDOW
from peers_benchmark.cases import Variant
from peers_benchmark.cases import model_of
from peers_benchmark.cases import our_predict
from peers_benchmark.cases import peer
from peers_benchmark.cases import size

MODES = {"compiled": None}
BASE = "JAX", "by hand"


def variants(case, _):
    x, y = map(jnp.asarray, case.data())

    for estimator in (PLAIN, SHARED, LOCAL, FLIPOUT):
        weights = initial(case, random=estimator != PLAIN)
        step = hand_step(weights, estimator, x, y)
        predict = None
        if estimator in (PLAIN, SHARED):
            predict = hand_passes(weights, estimator, x, case.samples, jax.lax.map)
        trained = size(jax.tree.leaves(weights))
        yield Variant("JAX", "by hand", estimator, trained, step, predict)
        if estimator == SHARED:
            at_once = hand_passes(weights, estimator, x, case.samples, vmapped)
            yield Variant("JAX", "by hand, vmap", SHARED, trained, predict=at_once)
    if numpyro := peer("numpyro_guide"):
        yield numpyro.variant(case, x, y)

    for estimator in (PLAIN, SHARED, LOCAL, FLIPOUT):
        layers = "keras.layers" if estimator == PLAIN else "keras_uq_layers"
        model = model_of(case, estimator)
        trained = size(model.trainable_variables)
        step, predict = stateless_step(model, x, y), None
        if estimator in (PLAIN, SHARED):
            predict = stateless_passes(model, x, case.samples)
        yield Variant("JAX, Keras layers", layers, estimator, trained, step, predict)
    predict = our_predict(model, x, case.samples)
    yield Variant("uq.predict", "keras_uq_layers", "any", 0, predict=predict)

    for count in (1, 2):
        step = products(case, x, y, count)
        yield Variant("JAX", f"{count} a layer", PRODUCTS, 0, step)


# By hand


def initial(case, random):
    """Weights, layer by layer: means of kernel and bias, and raw scales of both."""
    kernels = case.kernels(lambda *sizes: (WINDOW, WINDOW, *sizes))
    means = [(jnp.asarray(k), jnp.zeros(k.shape[-1])) for k in kernels]
    if not random:
        return {"mean": means}
    return {"mean": means, "raw": jax.tree.map(lambda m: jnp.full_like(m, -3.0), means)}


def linear(h, kernel):
    if kernel.ndim == 4:
        layout = "NHWC", "HWIO", "NHWC"
        return jax.lax.conv_general_dilated(
            h, kernel, (STRIDE, STRIDE), "VALID", dimension_numbers=layout
        )
    return flat_for(kernel, h) @ kernel


def flat_for(kernel, h):
    return h.reshape(len(h), -1) if kernel.ndim == 2 else h


def forward(weights, estimator, x, key):
    """The output and the KL."""
    h, kl = x, 0.0
    for i, (kernel, bias) in enumerate(weights["mean"]):
        h = flat_for(kernel, h)
        if estimator == PLAIN:
            h = jax.nn.relu(linear(h, kernel) + bias)
            continue
        scales = [jax.nn.softplus(raw) for raw in weights["raw"][i]]
        for mean, scale in zip((kernel, bias), scales, strict=True):
            kl += jnp.sum((scale**2 + mean**2 - 1) / 2 - jnp.log(scale))
        keys = jax.random.split(jax.random.fold_in(key, i), 3)
        if estimator == LOCAL:
            out = linear(h, kernel) + bias
            variance = linear(h**2, scales[0] ** 2) + scales[1] ** 2
            h = out + jnp.sqrt(variance) * jax.random.normal(keys[0], out.shape)
        else:
            change, shift = (
                scale * jax.random.normal(k, scale.shape)
                for k, scale in zip(keys[:2], scales, strict=True)
            )
            if estimator == SHARED:
                h = linear(h, kernel + change) + bias + shift
            else:
                out = linear(h, kernel) + bias
                signs_in, signs_out = signs(keys[2], h, out)
                h = out + (linear(h * signs_in, change) + shift) * signs_out
        h = jax.nn.relu(h)
    return h, kl


def signs(key, h, out):
    """Of each example's inputs and outputs: the same at all its positions."""
    channels = h.shape[-1], out.shape[-1]
    drawn = jax.random.bernoulli(key, shape=(len(h), sum(channels)))
    parts = jnp.split(jnp.where(drawn, 1.0, -1.0), [channels[0]], axis=-1)
    if out.ndim == 4:
        return [part[:, None, None, :] for part in parts]
    return parts


def adam(weights, gradients, state):
    """Adam with the constants of Keras."""
    count, first, second = state
    count += 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradients)
    rate = RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second
    )
    return weights, (count, first, second)


def hand_step(weights, estimator, x, y):
    def loss(weights, key):
        output, kl = forward(weights, estimator, x, key)
        return jnp.mean((output - y) ** 2) + kl / ROWS

    def update(state):
        weights, moments, key = state
        key, new = jax.random.split(key)
        value, gradients = jax.value_and_grad(loss)(weights, new)
        return (*adam(weights, gradients, moments), key), value

    zeros = jax.tree.map(jnp.zeros_like, weights)
    return stepper(update, (weights, (0.0, zeros, zeros), jax.random.key(0)))


def stepper(update, state):
    """A compiled step, whose state takes the place of the one before."""
    compiled = jax.jit(update, donate_argnums=0)
    # Several variants begin with the same weights.
    held = [jax.tree.map(jnp.array, state)]

    def step():
        held[0], value = compiled(held[0])
        return float(value)

    return step


def vmapped(function, arguments):
    return jax.vmap(function)(arguments)


def hand_passes(weights, estimator, x, samples, mapped):
    """All passes; of plain layers on other inputs each, or one pass were enough."""

    @jax.jit
    def run(key):
        if estimator == PLAIN:
            shifts = jnp.linspace(0.0, 1e-3, samples)
            return mapped(lambda s: forward(weights, PLAIN, x + s, None)[0], shifts)
        keys = jax.random.split(key, samples)
        return mapped(lambda key: forward(weights, SHARED, x, key)[0], keys)

    return lambda: np.asarray(run(jax.random.key(0)))


def products(case, x, y, count):
    """Forward and backward of `count` linear networks, without bias and activation."""
    kernels = case.kernels(lambda *sizes: (WINDOW, WINDOW, *sizes))
    networks = [list(map(jnp.asarray, kernels)) for _ in range(count)]

    @jax.jit
    def step(networks):
        def loss(networks):
            total = 0.0
            for network in networks:
                h = x
                for kernel in network:
                    h = linear(h, kernel)
                total += jnp.sum(h * y)
            return total

        return jax.value_and_grad(loss)(networks)

    return lambda: float(jax.block_until_ready(step(networks))[0])


# Keras's layers


def stateless_step(model, x, y):
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)

    def loss(trained, others):
        output, others, losses = model.stateless_call(
            trained, others, x, training=True, return_losses=True
        )
        return jnp.mean((output - y) ** 2) + sum(losses), others

    def update(state):
        trained, others, moments = state
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(
            trained, others
        )
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return (trained, others, moments), value

    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )
    return stepper(update, tuple([v.value for v in part] for part in variables))


def stateless_passes(model, x, samples):
    trained = [v.value for v in model.trainable_variables]

    @jax.jit
    def run(others):
        def one(others, shift):
            output, others = model.stateless_call(trained, others, x + shift)
            return others, output

        return jax.lax.scan(one, others, jnp.linspace(0.0, 1e-3, samples))[1]

    others = [v.value for v in model.non_trainable_variables]
    return lambda: np.asarray(run(others))
