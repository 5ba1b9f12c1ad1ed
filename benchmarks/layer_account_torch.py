"""Where the time of one small layer goes on PyTorch, part by part.

    KERAS_BACKEND=torch python benchmarks/layer_account_torch.py [--rounds 15]

A layer of 16 units, with a batch of 32. Each part of a call runs alone; beside it
stands the same arithmetic in operations of PyTorch, which is its lower bound. All that
is above it is the way there in Python: the checks of Keras's operations, its layers and
its variables.

Microseconds of processor time on one thread, the median of rounds in which all parts
run in turn. Needs PyTorch.
"""

import argparse
import os
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from keras import ops
from timing import interleaved
from timing import versions
from torch.nn import functional

import keras_uq_layers as uq
from keras_uq_layers import _random

UNITS, BATCH = 16, 32
REPEATS = 200


def pairs():
    """Dict from the name of a part to ours and to its arithmetic."""
    x = torch.randn(BATCH, UNITS)
    plain = keras.layers.Dense(UNITS, "relu")
    shared, flipout = (
        uq.DenseVariational(UNITS, "relu", kl_weight=1e-4, estimator=estimator)
        for estimator in ("reparameterization", "flipout")
    )
    for layer in (plain, shared, flipout):
        layer.build(x.shape)
    posterior, weights = shared.posterior, shared.random_weights
    seeds = shared.seed_generators[0]
    n = posterior.size
    mean, bias = (w.value.detach().requires_grad_() for w in plain.variables)
    raw = torch.randn(n, requires_grad=True)
    flat = torch.randn(n, requires_grad=True)
    generator = torch.Generator()
    ends = [UNITS * UNITS, UNITS]

    def draw():
        change = functional.softplus(raw) * torch.randn(n)
        kernel, shift = change.split(ends)
        return mean + kernel.view(UNITS, UNITS), bias + shift

    def product(kernel, bias):
        return torch.relu(torch.addmm(bias, x, kernel))

    def signs():
        return torch.empty(BATCH, 2 * UNITS).uniform_(-1, 1).sign_()

    def flipped():
        kernel, shift = draw()
        both = signs()
        change = torch.addmm(shift, x * both[:, :UNITS], kernel)
        return torch.relu(torch.addmm(bias, x, mean) + change * both[:, UNITS:])

    def kl():
        scale = functional.softplus(raw)
        squares = (mean * mean).sum() + (bias * bias).sum()
        return (0.5 * scale * scale - torch.log(scale) - 0.5).sum() + 0.5 * squares

    kernel, shift = (w.detach() for w in draw())
    return {
        "`Dense`, called": (lambda: plain(x), lambda: product(mean, bias)),
        "`Dense.call`": (lambda: plain.call(x), lambda: product(mean, bias)),
        "shared sample, called": (lambda: shared(x), lambda: product(*draw())),
        "`call` of it": (lambda: shared.call(x), lambda: product(*draw())),
        "of which a seed": (seeds.next, lambda: generator.manual_seed(1)),
        "a seed and normal numbers": (
            lambda: _random.normal((n,), "float32", seeds),
            lambda: torch.randn(n, generator=generator.manual_seed(1)),
        ),
        "scales": (posterior.diagonal, lambda: 1e-8 + functional.softplus(raw)),
        "kernel and bias of a vector": (
            lambda: posterior.unpack(flat),
            lambda: [part.view(-1) for part in flat.split(ends)],
        ),
        "all of a draw": (weights.draw, draw),
        "product, bias, activation": (
            lambda: shared.activation(shared._affine(x, kernel, shift)),
            lambda: product(kernel, shift),
        ),
        "flipout, called": (lambda: flipout(x, training=True), flipped),
        "of which signs": (lambda: flipout._signs(x, x), signs),
        "KL": (shared.kl, kl),
        "KL, as Keras asks for it": (lambda: shared.losses, kl),
        "one `ops.matmul`": (lambda: ops.matmul(x, kernel), lambda: x @ kernel),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    parts = pairs()
    functions = {(name, i): parts[name][i] for name in parts for i in (0, 1)}
    times = interleaved(functions, rounds, REPEATS, time.process_time)
    print(f"{versions()}, PyTorch {torch.__version__}\n")
    print("| part | ours, us | PyTorch alone, us |\n| --- | --- | --- |")
    for name in parts:
        ours, alone = (1e6 * np.median(times[name, i]) for i in (0, 1))
        print(f"| {name} | {ours:.0f} | {alone:.0f} |")


if __name__ == "__main__":
    main()
