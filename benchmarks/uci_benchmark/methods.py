"""The methods: what a network of 50 hidden units is made of, and its loss.

A method is a list of candidates, of which the rule in `protocol.py` takes one
for each split by validation rows. Each candidate is the recipe of a Keras
model of the library's layers.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras

import keras_uq_layers as uq

UNITS = 50


class Candidate(NamedTuple):
    """One choice of the hyper-parameters of a method."""

    name: str
    # From the number of training rows, of which the weight of a KL is the
    # inverse, to the layers.
    layers: Callable[[int], list]
    family: uq.families.Family = uq.families.Normal()
    beta: float = 0.0
    learning_rate: float = 3e-3

    def build(self, features, rows):
        """A new model for standardised features and targets."""
        return keras.Sequential([keras.Input((features,)), *self.layers(rows)])

    def loss(self):
        return uq.losses.NegativeLogLikelihood(self.family, beta=self.beta)


class Method(NamedTuple):
    """A row of the table."""

    title: str
    candidates: list
    members: int = 1  # of an ensemble
    passes: int = 1  # of each member, where it is random
    calibrated: bool = False  # whether a factor on the scale is chosen, too


def hidden():
    return keras.layers.Dense(UNITS, "relu")


def plain(name, head, **options):
    return Candidate(name, lambda rows: [hidden(), head()], **options)


def classic_head(family="normal"):
    """The map of the rows of random weights and of `best`."""
    return uq.DistributionHead(1, family, parameterization="scale")


def variational(**options):
    def layers(rows):
        random = uq.DenseVariational(UNITS, "relu", kl_weight=1 / rows, **options)
        return [random, classic_head()]

    return [Candidate("", layers)]


def dropout(rate):
    return Candidate(
        f"rate {rate}",
        lambda rows: [hidden(), uq.MCDropout(rate), uq.DistributionHead(1)],
    )


def concrete_dropout(rows):
    wrapped = uq.ConcreteDropout(hidden(), kl_weight=1 / rows)
    return [wrapped, uq.DistributionHead(1)]


def student_t(df, dropout=0.0):
    """A candidate of `best`."""
    family = uq.families.StudentT(df)

    def layers(rows):
        noise = [uq.MCDropout(dropout)] if dropout else []
        return [hidden(), *noise, classic_head(family)]

    name = f"df {df:g}, dropout {dropout:g}"
    return Candidate(name, layers, family, beta=0.5, learning_rate=1e-2)


NORMAL = plain("", lambda: uq.DistributionHead(1))
CLASSIC = plain("", classic_head)
PASSES = 50

METHODS = {
    "constant": Method(
        "`ConstantVarianceHead`, trainable scale",
        [plain("", lambda: uq.ConstantVarianceHead(1, trainable_scale=True))],
    ),
    "normal": Method("`DistributionHead`, normal", [NORMAL]),
    "classic": Method(
        '`DistributionHead`, normal, `parameterization="scale"`', [CLASSIC]
    ),
    "beta_nll": Method(
        "`DistributionHead`, normal, `beta=0.5`", [NORMAL._replace(beta=0.5)]
    ),
    "student_t": Method(
        "`DistributionHead`, Student-t, `df` learned",
        [
            plain(
                "",
                lambda: uq.DistributionHead(1, "student_t"),
                family=uq.families.StudentT(),
            )
        ],
    ),
    "variational_local": Method(
        "`DenseVariational`, local reparameterization", variational(), passes=PASSES
    ),
    "variational_flipout": Method(
        "`DenseVariational`, flipout", variational(estimator="flipout"), passes=PASSES
    ),
    "variational_shared": Method(
        "`DenseVariational`, reparameterization",
        variational(estimator="reparameterization"),
        passes=PASSES,
    ),
    "variational_low_rank": Method(
        "`DenseVariational`, low-rank posterior",
        variational(posterior="low_rank"),
        passes=PASSES,
    ),
    "variational_full": Method(
        "`DenseVariational`, full covariance",
        variational(posterior="full_covariance"),
        passes=PASSES,
    ),
    "mc_dropout": Method(
        "`MCDropout`",
        [dropout(rate) for rate in (0.005, 0.01, 0.05, 0.1)],
        passes=PASSES,
    ),
    "concrete_dropout": Method(
        "`ConcreteDropout`", [Candidate("", concrete_dropout)], passes=PASSES
    ),
    "ensemble": Method("`Ensemble` of 5, normal", [NORMAL], members=5),
    "best": Method(
        "`Ensemble` of 5, Student-t, `beta=0.5`, dropout or none, scale factor",
        [student_t(3.0), student_t(5.0), student_t(5.0, dropout=0.005)],
        members=5,
        passes=10,
        calibrated=True,
    ),
}
