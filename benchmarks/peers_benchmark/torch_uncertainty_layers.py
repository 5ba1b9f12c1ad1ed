"""The layers of torch-uncertainty, with its own estimate of the KL from one draw.

Its prior is a mixture of two normals, of which the second has no weight here.
"""

import functools

import torch
from torch_uncertainty.layers import BayesConv2d
from torch_uncertainty.layers import BayesLinear
from torch_uncertainty.losses import KLDiv

from peers_benchmark.cases import ROWS
from peers_benchmark.cases import SHARED
from peers_benchmark.on_torch import modules


def networks(case):
    layers = (
        functools.partial(layer, prior_sigma_1=1.0, prior_pi=1.0, sigma_init=-3.0)
        for layer in (BayesConv2d, BayesLinear)
    )
    network = torch.nn.Sequential(*modules(case, *layers))
    divergence = KLDiv(network)
    # It is the mean over the layers.
    weight = (len(case.filters) + len(case.units)) / ROWS

    def forward(x):
        output = network(x)
        if not torch.is_grad_enabled():
            return output, 0
        return output, weight * divergence().sum()

    yield "torch-uncertainty", SHARED, list(network.parameters()), forward
