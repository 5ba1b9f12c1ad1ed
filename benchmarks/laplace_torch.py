"""`to_laplace` against laplace-torch, on the same weights: the numbers and the time.

    KERAS_BACKEND=torch python benchmarks/laplace_torch.py [--rounds 9]

Needs the extra `peers`.

A network with generic weights, as a PyTorch and as a Keras model, gets a Laplace
approximation of its last layer with the same prior from either library. Compared
are the covariance of the weights, the log marginal likelihood, and the variance of
the linearised outputs: the largest difference, relative to the largest number.
The script fails where one is above 1e-5.

Then a larger network, in float32, is timed with either: fitting with the
evidence, and 100 predictions of probabilities from draws of the last layer.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from laplace import Laplace
from timing import interleaved
from timing import ratio
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

import keras_uq_layers as uq

INPUTS, HIDDEN, UNITS, ROWS = 3, 5, 4, 60
# Of the network that is timed.
LARGE = {"inputs": 64, "hidden": 64, "units": 10}
LARGE_ROWS, LARGE_BATCH, SAMPLES = 2048, 512, 100
PRECISION, NOISE = 0.7, 0.4
STRUCTURES = {"full": "full", "kronecker": "kron", "diagonal": "diag"}
# Of the flat weights: PyTorch has units first, then inputs.
OURS = np.concatenate(
    [
        np.arange(UNITS * HIDDEN).reshape(UNITS, HIDDEN).T.ravel(),
        np.arange(UNITS * HIDDEN, UNITS * (HIDDEN + 1)),
    ]
)


def twins(activation, loss, inputs=INPUTS, hidden=HIDDEN, units=UNITS, dtype="float64"):
    """The same network twice, the one of PyTorch in `dtype`."""
    layers = [
        keras.layers.Dense(hidden, "tanh"),
        keras.layers.Dense(units, activation),
    ]
    model = keras.Sequential([keras.Input((inputs,)), *layers])
    model.compile("adam", loss)
    linear = nn.Linear(inputs, hidden), nn.Linear(hidden, units)
    for ours, theirs in zip(layers, linear, strict=True):
        kernel, bias = ours.get_weights()
        bias = np.linspace(-0.5, 0.5, len(bias), dtype="float32")
        ours.set_weights([kernel, bias])
        theirs.weight.data = torch.tensor(kernel.T.astype(dtype, order="C"))
        theirs.bias.data = torch.tensor(bias.astype(dtype))
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


def exactness():
    """Prints the table of differences."""
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

    torch.set_default_dtype(torch.float32)


def functions_to_time(structure):
    """Of either library: a fit, and the predictions of what it fitted."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(LARGE_ROWS, LARGE["inputs"])).astype("float32")
    y = rng.integers(0, LARGE["units"], LARGE_ROWS)
    rows = x[:LARGE_BATCH]
    loss = "sparse_categorical_crossentropy"
    model, network = twins("softmax", loss, **LARGE, dtype="float32")
    loader = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), LARGE_BATCH)

    def our_fit():
        return uq.to_laplace(
            model, x, y, structure=structure, prior_precision=PRECISION,
            batch_size=LARGE_BATCH, verbose=0,
        )  # fmt: skip

    def their_fit():
        laplace = Laplace(
            network, "classification", subset_of_weights="last_layer",
            hessian_structure=STRUCTURES[structure], prior_precision=PRECISION,
        )  # fmt: skip
        laplace.fit(loader)
        laplace.log_marginal_likelihood()
        return laplace

    random, laplace = our_fit(), their_fit()

    def our_predict():
        return uq.predict(random, rows, samples=SAMPLES, verbose=0).samples

    def their_predict():
        return laplace.predictive_samples(
            torch.tensor(rows), pred_type="nn", n_samples=SAMPLES
        ).numpy()

    return {"fit": (our_fit, their_fit), "predict": (our_predict, their_predict)}


def speed(rounds):
    """Yields the lines of a table of times."""
    yield "| structure | what | ours, ms | laplace-torch, ms | ours / theirs |"
    yield "| --- | --- | --- | --- | --- |"
    for structure in STRUCTURES:
        for what, (ours, theirs) in functions_to_time(structure).items():
            times = interleaved({"ours": ours, "theirs": theirs}, rounds)
            cells = [f"{1e3 * np.median(t):.1f}" for t in times.values()]
            cells.append(ratio(times["ours"], times["theirs"]))
            yield f"| {structure} | {what} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    exactness()
    print()
    for line in speed(options.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
