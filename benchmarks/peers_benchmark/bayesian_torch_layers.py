"""The layers of bayesian-torch, which return a KL beside the output.

Their KL is a mean over the weights and not a sum, which takes as long.
"""

import torch
from bayesian_torch import layers as bayesian

from peers_benchmark.cases import FLIPOUT
from peers_benchmark.cases import ROWS
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import STRIDE
from peers_benchmark.cases import WINDOW

LAYERS = {
    SHARED: (bayesian.Conv2dReparameterization, bayesian.LinearReparameterization),
    FLIPOUT: (bayesian.Conv2dFlipout, bayesian.LinearFlipout),
}


class Network(torch.nn.Module):
    def __init__(self, case, convolution, dense):
        super().__init__()
        self.random = torch.nn.ModuleList(
            case.layers(
                lambda inputs, filters: convolution(inputs, filters, WINDOW, STRIDE),
                dense,
            )
        )
        self.convolutions = len(case.filters)

    def forward(self, x):
        total = 0.0
        for i, layer in enumerate(self.random):
            if self.convolutions and i == self.convolutions:
                x = x.flatten(1)
            x, kl = layer(x)
            x, total = torch.relu(x), total + kl
        return x, total / ROWS


def networks(case):
    for estimator, layers in LAYERS.items():
        network = Network(case, *layers)
        yield "bayesian-torch", estimator, list(network.parameters()), network
