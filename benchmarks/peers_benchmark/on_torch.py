"""PyTorch, eager: a loop of PyTorch for all, and the step of Keras's trainer.

The loop is forward, backward and `torch.optim.Adam`. Images have their channels
first, for Keras's layers, too: PyTorch has no other convolution.
"""

import torch

from peers_benchmark.cases import FLIPOUT
from peers_benchmark.cases import LOCAL
from peers_benchmark.cases import PLAIN
from peers_benchmark.cases import PRODUCTS
from peers_benchmark.cases import RATE
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import STRIDE
from peers_benchmark.cases import WINDOW
from peers_benchmark.cases import Variant
from peers_benchmark.cases import flattened
from peers_benchmark.cases import model_of
from peers_benchmark.cases import our_predict
from peers_benchmark.cases import peer
from peers_benchmark.cases import size
from peers_benchmark.cases import train_on_batch

MODES = {"eager": None}
BASE = "PyTorch", "torch.nn"


def variants(case, _):
    x, y = map(torch.tensor, case.data())

    def variant(loop, layers, estimator, parameters, forward, predicts=True):
        """`forward` returns the output and the weighted KL."""
        return Variant(
            loop,
            layers,
            estimator,
            size(parameters),
            eager_step(lambda: forward(x), y, parameters),
            passes(lambda: forward(x)[0], case.samples) if predicts else None,
        )

    plain = torch.nn.Sequential(*modules(case, torch.nn.Conv2d, torch.nn.Linear))
    yield variant(
        "PyTorch", "torch.nn", PLAIN, list(plain.parameters()), lambda x: (plain(x), 0)
    )
    for name in ("bayesian_torch_layers", "torch_uncertainty_layers"):
        if library := peer(name):
            for layers, estimator, parameters, forward in library.networks(case):
                yield variant("PyTorch", layers, estimator, parameters, forward)

    for estimator in (PLAIN, SHARED, LOCAL, FLIPOUT):
        layers = "keras.layers" if estimator == PLAIN else "keras_uq_layers"
        model = model_of(case, estimator)
        parameters = [v.value for v in model.trainable_variables]
        loop = "PyTorch, Keras layers"
        forward = keras_forward(model)
        # Our estimators draw alike in predictions.
        predicts = estimator in (PLAIN, SHARED)
        yield variant(loop, layers, estimator, parameters, forward, predicts)
        model = model_of(case, estimator)
        step = train_on_batch(model, x, y)
        yield Variant("train_on_batch", layers, estimator, size(parameters), step)
    predict = our_predict(model, x, case.samples)
    yield Variant("uq.predict", "keras_uq_layers", "any", 0, predict=predict)

    for count in (1, 2):
        yield Variant(
            "PyTorch", f"{count} a layer", PRODUCTS, 0, products(case, x, y, count)
        )


def modules(case, convolution, dense):
    """The layers of PyTorch, each with its ReLU."""
    layers = case.layers(
        lambda inputs, filters: torch.nn.Sequential(
            convolution(inputs, filters, WINDOW, STRIDE), torch.nn.ReLU()
        ),
        lambda inputs, units: torch.nn.Sequential(
            dense(inputs, units), torch.nn.ReLU()
        ),
    )
    return flattened(case, layers, torch.nn.Flatten)


def keras_forward(model):
    def forward(x):
        training = torch.is_grad_enabled()
        return model(x, training=training), sum(model.losses) if training else 0

    return forward


def eager_step(forward, y, parameters):
    optimizer = torch.optim.Adam(parameters, RATE)

    def step():
        optimizer.zero_grad()
        output, kl = forward()
        loss = torch.mean(torch.square(output - y)) + kl
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def passes(forward, samples):
    def run():
        with torch.no_grad():
            return torch.stack([forward() for _ in range(samples)]).numpy()

    return run


def products(case, x, y, count):
    """Forward and backward of `count` linear networks, without bias and activation."""
    kernels = case.kernels(lambda inputs, filters: (filters, inputs, WINDOW, WINDOW))
    networks = [
        [torch.tensor(kernel, requires_grad=True) for kernel in kernels]
        for _ in range(count)
    ]

    def linear(h, kernel):
        if kernel.ndim == 4:
            return torch.nn.functional.conv2d(h, kernel, stride=STRIDE)
        return h.flatten(1) @ kernel

    def step():
        loss = 0.0
        for network in networks:
            h = x
            for kernel in network:
                h = linear(h, kernel)
            loss = loss + torch.sum(h * y)
        torch.autograd.grad(
            loss, [kernel for network in networks for kernel in network]
        )
        return loss.item()

    return step
