"""The methods: how each trains its network, or makes it of trained ones.

A method is a list of recipes. Where there are several, the validation rows of the
first seed choose one for all seeds. All numbers in which recipes differ are in their
options, which are part of the results.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from classification import adapt

import keras_uq_layers as uq
from fashion_mnist_benchmark.data import Data
from fashion_mnist_benchmark.networks import LARGE
from fashion_mnist_benchmark.networks import LAYERS
from fashion_mnist_benchmark.networks import SMALL
from fashion_mnist_benchmark.networks import falling
from fashion_mnist_benchmark.networks import fit
from fashion_mnist_benchmark.networks import lenet5
from fashion_mnist_benchmark.networks import moves
from fashion_mnist_benchmark.networks import moving

PASSES = 10  # of a random network, as published
FINE_TUNING = 5  # a network that is trained already gets a fifth of the epochs
TEMPERATURES = np.geomspace(0.5, 2.0, 29).tolist()
LOGITS = uq.families.Categorical()
FIRST, LAST = LAYERS[0], LAYERS[-1]


class Work(NamedTuple):
    """What a recipe is given."""

    data: Data
    seed: int
    epochs: int
    sources: list  # trained networks

    @property
    def kl_weight(self):
        return 1 / len(self.data.train.x)


class Recipe(NamedTuple):
    """One way to a network."""

    # Function of a `Work` and of the options that returns a Keras model.
    make: Callable
    options: dict
    passes: int = 1
    # The method of whose networks it is made, and how many of them.
    source: str | None = None
    members: int = 1

    @property
    def label(self):
        return ", ".join(f"{name} {value}" for name, value in self.options.items())

    def source_seeds(self, seed):
        """Seeds of the networks that it is made of: no two ensembles share one."""
        if self.source is None:
            return []
        return list(range(seed * self.members, (seed + 1) * self.members))


class Method(NamedTuple):
    """A row of the table."""

    title: str
    recipes: list
    seeds: int = 3
    # From the network and the data to a function of images: how unknown each is.
    # None: the entropy of the predicted probabilities.
    score: Callable | None = None


# Networks that are trained from random weights


def deterministic(work, padding=SMALL):
    return fit(lenet5(padding=padding), work)


def mc_dropout(work, rate):
    return fit(lenet5(dropping(rate)), work)


def dropping(rate):
    """Dropout in front of every layer with weights but the first."""

    def change(layer):
        return [layer] if layer.name == FIRST else [uq.MCDropout(rate), layer]

    return change


def concrete_dropout(work):
    def change(layer):
        if layer.name == FIRST:
            return [layer]
        return [uq.ConcreteDropout(layer, kl_weight=work.kl_weight)]

    return fit(lenet5(change), work)


def variational(work, layers, estimator, kl_factor):
    def change(layer):
        if layer.name not in layers:
            return [layer]
        common = {
            "activation": layer.activation,
            "kl_weight": kl_factor * work.kl_weight,
            "estimator": estimator,
            "name": layer.name,
        }
        if isinstance(layer, keras.layers.Dense):
            return [uq.DenseVariational(layer.units, **common)]
        random = uq.Conv2DVariational(
            layer.filters, layer.kernel_size, padding=layer.padding, **common
        )
        return [random]

    return fit(lenet5(change), work)


def random_features(work, features, bounded):
    """A Gaussian process on the network (SNGP).

    Args:
        work: A `Work`.
        features: Number of random features.
        bounded: Whether the layers in front have a spectral norm of 1.
    """

    def change(layer):
        if layer.name != LAST:
            return [keras.layers.SpectralNormalization(layer) if bounded else layer]
        return [
            uq.RandomFourierFeatures(features, name="random_features", seed=work.seed),
            # Their scale of sqrt(2 / features) is too small for this learning rate.
            keras.layers.Rescaling(math.sqrt(features / 2) / 4),
            layer,
        ]

    network = lenet5(change)
    adapt(network, work.data.train.x)
    return uq.to_laplace(fit(network, work), *work.data.train, verbose=0)


def annealed(work, rate, pixels, learning_rate, averaging, padding):
    """Dropout, and a learning rate and weights that come to rest.

    Args:
        work: A `Work`.
        rate: Of the dropout.
        pixels: Largest shift of the images, which are flipped, too. None: neither.
        learning_rate: The rate at the start.
        averaging: Share of the last average of the weights in the next one.
        padding: Of the network.
    """
    before = [] if pixels is None else moves(pixels)
    network = lenet5(dropping(rate), before, padding)
    return fit(network, work, optimizer=falling(work, learning_rate, averaging))


# Networks that are made of trained ones


def temperature(work):
    [network] = work.sources
    x, y = work.data.validation
    scaling = uq.TemperatureScaling().fit(predict(network, x), y)
    return keras.Sequential([*network.layers, scaling])


def best_single(work, moves_images):
    """One network with dropout, and one temperature for all its passes.

    Args:
        work: A `Work`.
        moves_images: Whether each pass flips and shifts the images, as in training.
    """
    [network] = work.sources
    if moves_images:
        network = moving(network)
    x, y = work.data.validation
    logits = predict(network, x, PASSES).samples

    def nll(temperature):
        prediction = uq.ClassPrediction(logits / temperature, LOGITS)
        return -prediction.log_prob(y).mean()

    scaling = uq.TemperatureScaling(min(TEMPERATURES, key=nll))
    return keras.Model(network.inputs, scaling(network.outputs[0]))


def laplace(work):
    [network] = work.sources
    return uq.to_laplace(network, *work.data.train, verbose=0)


def ensemble(work):
    return uq.Ensemble.from_models(work.sources)


def bayesian(work, layers, estimator, prior_scale, learning_rate):
    [network] = work.sources
    random = uq.to_bayesian(
        network,
        kl_weight=work.kl_weight,
        layers=layers,
        estimator=estimator,
        prior_scale=prior_scale,
    )
    return fit(
        random,
        work,
        epochs=max(1, work.epochs // FINE_TUNING),
        optimizer=keras.optimizers.Adam(learning_rate),
    )


# Other scores of unknown images


def energy(network, data):
    def score(x):
        logits = network.predict(x, verbose=0)
        return keras.ops.convert_to_numpy(uq.novelty.energy(logits))

    return score


def feature_density(network, data):
    density = uq.novelty.FeatureDensity(network).fit(*data.train, verbose=0)
    return functools.partial(density.score, verbose=0)


def predict(network, x, passes=1):
    return uq.predict(network, x, LOGITS, samples=passes, seed=0, verbose=0)


# The list


def with_dropout(rates, padding):
    """The recipes of a network that is trained with a falling rate."""
    return [
        Recipe(
            annealed,
            {
                "rate": rate,
                "pixels": pixels,
                "learning_rate": 2e-3,
                "averaging": 0.995,
                "padding": padding,
            },
            PASSES,
        )
        for rate, pixels in itertools.product(rates, (None, 1))
    ]


def of_random_weights():
    """The methods of random weights: which layers, which estimator, which start."""
    found = {}
    choices = itertools.product(
        {"last": [LAST], "all": list(LAYERS)}.items(),
        {"local": "local_reparameterization", "flipout": "flipout"}.items(),
    )
    for (extent, layers), (short, estimator) in choices:
        which = "last layer" if extent == "last" else "all layers"
        options = {"layers": layers, "estimator": estimator}
        found[f"variational_{extent}_{short}"] = Method(
            f"variational, {which}, {short}",
            [
                Recipe(variational, {**options, "kl_factor": factor}, PASSES)
                for factor in (1.0, 0.1)
            ],
        )
        found[f"bayesian_{extent}_{short}"] = Method(
            f"`to_bayesian`, {which}, {short}",
            [
                Recipe(
                    bayesian,
                    {**options, "prior_scale": scale, "learning_rate": 3e-4},
                    PASSES,
                    source="deterministic",
                )
                for scale in (1.0, 0.1)
            ],
        )
    return found


def at_best(source):
    return [
        Recipe(best_single, {"moves_images": also}, PASSES, source=source)
        for also in (False, True)
    ]


DETERMINISTIC = [Recipe(deterministic, {})]

METHODS = {
    "deterministic": Method("deterministic", DETERMINISTIC, seeds=10),
    "temperature": Method(
        "`TemperatureScaling`",
        [Recipe(temperature, {}, source="deterministic")],
        seeds=5,
    ),
    "laplace": Method(
        "`to_laplace`",
        [Recipe(laplace, {}, PASSES, source="deterministic")],
        seeds=5,
    ),
    "energy": Method("`novelty.energy`", DETERMINISTIC, seeds=5, score=energy),
    "feature_density": Method(
        "`novelty.FeatureDensity`", DETERMINISTIC, seeds=5, score=feature_density
    ),
    # As many as the ten deterministic networks allow.
    "ensemble_5": Method(
        "`Ensemble` of 5",
        [Recipe(ensemble, {}, source="deterministic", members=5)],
        seeds=2,
    ),
    "ensemble_10": Method(
        "`Ensemble` of 10",
        [Recipe(ensemble, {}, source="deterministic", members=10)],
        seeds=1,
    ),
    "annealed": Method("`MCDropout`, annealed", with_dropout((0.05, 0.1), SMALL)),
    "best_single": Method("best single network", at_best("annealed")),
    "best_ensemble": Method(
        "`Ensemble` of 5, annealed",
        [Recipe(ensemble, {}, PASSES // 5, source="annealed", members=5)],
        seeds=1,
    ),
    "mc_dropout": Method(
        "`MCDropout`",
        [Recipe(mc_dropout, {"rate": rate}, PASSES) for rate in (0.05, 0.1, 0.2)],
    ),
    "concrete_dropout": Method(
        "`ConcreteDropout`", [Recipe(concrete_dropout, {}, PASSES)]
    ),
    "random_features": Method(
        "`RandomFourierFeatures`, Laplace",
        [
            Recipe(random_features, {"features": 1024, "bounded": bounded}, PASSES)
            for bounded in (True, False)
        ],
    ),
    **of_random_weights(),
    "large_deterministic": Method(
        "large, deterministic", [Recipe(deterministic, {"padding": LARGE})]
    ),
    "large_annealed": Method(
        "large, `MCDropout`, annealed", with_dropout((0.2, 0.35), LARGE)
    ),
    "large_best_single": Method(
        "large, best single network", at_best("large_annealed")
    ),
}
