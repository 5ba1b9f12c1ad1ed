"""A world with known truth, and a wrong model of it.

The model is biased and far too sure of itself. A simulation of many rounds is
one prediction with many outputs: each output is a round of its own, with its
own calibration set.
"""

import numpy as np

import keras_uq_layers as uq


def targets(rng, x):
    return x + (0.5 + 0.5 * np.abs(x)) * rng.standard_t(4, size=x.shape)


def wrong(x, family="normal"):
    """A `Prediction` with the mean 0.5 x + 0.3 and the scale 0.3."""
    params = np.concatenate([0.5 * x + 0.3, np.full_like(x, 0.3)], axis=1)
    return uq.Prediction(params[None], family)


def share(covered):
    """Mean coverage of the rounds, and four standard errors of this mean."""
    shares = covered.mean(axis=0)
    return shares.mean(), 4 * shares.std() / np.sqrt(len(shares))
