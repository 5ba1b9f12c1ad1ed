"""`to_laplace` against laplace-torch, on the same weights.

    pip install laplace-torch==0.3
    KERAS_BACKEND=torch python benchmarks/laplace_torch.py

A network with generic weights, as a PyTorch and as a Keras model, gets a Laplace
approximation of its last layer with the same prior from either library. Compared
are the covariance of the weights, the log marginal likelihood, and the variance of
the linearised outputs: the largest difference, relative to the largest number.
The script fails where one is above 1e-5.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from laplace import Laplace
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

import keras_uq_layers as uq

INPUTS, HIDDEN, UNITS, ROWS = 3, 5, 4, 60
PRECISION, NOISE = 0.7, 0.4
STRUCTURES = {"full": "full", "kronecker": "kron", "diagonal": "diag"}
# Of the flat weights: PyTorch has units first, then inputs.
OURS = np.concatenate(
    [
        np.arange(UNITS * HIDDEN).reshape(UNITS, HIDDEN).T.ravel(),
        np.arange(UNITS * HIDDEN, UNITS * (HIDDEN + 1)),
    ]
)


def twins(activation, loss):
    """The same network twice, the one of PyTorch in float64."""
    layers = [
        keras.layers.Dense(HIDDEN, "tanh"),
        keras.layers.Dense(UNITS, activation),
    ]
    model = keras.Sequential([keras.Input((INPUTS,)), *layers])
    model.compile("adam", loss)
    linear = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, UNITS)
    for ours, theirs in zip(layers, linear, strict=True):
        kernel, bias = ours.get_weights()
        bias = np.linspace(-0.5, 0.5, len(bias), dtype="float32")
        ours.set_weights([kernel, bias])
        theirs.weight.data = torch.tensor(kernel.T.astype("float64", order="C"))
        theirs.bias.data = torch.tensor(bias.astype("float64"))
    return model, nn.Sequential(linear[0], nn.Tanh(), linear[1])


def ours(model, x, y, structure, noise):
    """Covariance, log marginal likelihood, variances of the outputs."""
    model = uq.to_laplace(
        model, x, y, structure=structure, prior_precision=PRECISION,
        noise_scale=noise, verbose=0,
    )  # fmt: skip
    hidden, last = model.layers
    unit_noise = torch.eye(last.posterior.noise_size, dtype=torch.float32)
    roots = [last.posterior.perturbation(row).detach().numpy() for row in unit_noise]
    covariance = np.transpose(roots).astype("float64") @ np.array(roots)
    h = np.pad(hidden(x).detach().numpy(), [(0, 0), (0, 1)], constant_values=1.0)
    jacobian = np.einsum("ni,uv->nuiv", h, np.eye(UNITS)).reshape(len(x), UNITS, -1)
    variances = np.einsum("nua,ab,nvb->nuv", jacobian, covariance, jacobian)
    return covariance, last.log_marginal_likelihood, variances


def theirs(network, x, y, structure, noise):
    likelihood = "classification" if noise is None else "regression"
    laplace = Laplace(
        network, likelihood, subset_of_weights="last_layer",
        hessian_structure=STRUCTURES[structure], prior_precision=PRECISION,
        sigma_noise=1.0 if noise is None else noise,
    )  # fmt: skip
    x = torch.tensor(x.astype("float64"))
    laplace.fit(DataLoader(TensorDataset(x, torch.tensor(y)), batch_size=ROWS))
    precision = laplace.posterior_precision
    if structure == "diagonal":
        precision = torch.diag(precision)
    elif structure == "kronecker":
        precision = precision.to_matrix()
    covariance = torch.linalg.inv(precision).numpy()[np.ix_(OURS, OURS)]
    _, variances = laplace._glm_predictive_distribution(x)
    evidence = float(laplace.log_marginal_likelihood())
    return covariance, evidence, variances.detach().numpy()


def main():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, INPUTS)).astype("float32")
    labels, numbers = rng.integers(0, UNITS, ROWS), rng.normal(size=(ROWS, UNITS))
    kinds = {
        "softmax": ("sparse_categorical_crossentropy", labels, None),
        "linear": ("mse", numbers, NOISE),
    }
    torch.set_default_dtype(torch.float64)
    print("| outputs | structure | covariance | log evidence | variance of outputs |")
    print("| --- | --- | --- | --- | --- |")
    for activation, (loss, y, noise) in kinds.items():
        model, network = twins(activation, loss)
        for structure in STRUCTURES:
            found = ours(model, x, y, structure, noise)
            expected = theirs(network, x, y, structure, noise)
            errors = [
                np.max(np.abs(a - b)) / np.max(np.abs(b))
                for a, b in zip(found, expected, strict=True)
            ]
            cells = " | ".join(f"{error:.1e}" for error in errors)
            print(f"| {activation} | {structure} | {cells} |")
            assert max(errors) < 1e-5


if __name__ == "__main__":
    main()
