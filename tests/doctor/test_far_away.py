"""Doubt that does not grow away from the data. All models have weights set by hand."""

import keras
import numpy as np
from keras import layers

import keras_uq_layers as uq

ROWS = 60
RNG = np.random.default_rng(0)
LABELS = np.arange(ROWS) % 2
X = (RNG.normal(0.0, 0.4, (ROWS, 2)) + (2.0 * LABELS - 1.0)[:, None]).astype("float32")
NLL = uq.losses.NegativeLogLikelihood("categorical")


def linear(slope):
    """Sure of the side of a line that a row is on, the more so the further away."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, "softmax")])
    model.set_weights([slope * np.array([[-1.0, 1.0], [-1.0, 1.0]]), np.zeros(2)])
    return model


def ensemble():
    def builder():
        return keras.Sequential([keras.Input((2,)), layers.Dense(2, "softmax")])

    model = uq.Ensemble(builder, 3)
    for member, slope in zip(model.members, (1.0, 1.2, 1.5), strict=True):
        member.set_weights(linear(slope).get_weights())
    return model


def with_random_features():
    """The same answers at the rows, from features that forget what is far away."""
    features = uq.RandomFourierFeatures(128, kernel_scale=1.0, seed=0)
    last = layers.Dense(2, "softmax")
    model = keras.Sequential([keras.Input((2,)), features, last])
    phi = keras.ops.convert_to_numpy(features(X))
    target = 3.0 * (2.0 * LABELS - 1.0)
    weights = phi.T @ np.linalg.solve(phi @ phi.T + 0.1 * np.eye(ROWS), target)
    last.set_weights([np.stack([-weights, weights], axis=1), np.zeros(2)])
    return uq.to_laplace(model, X, LABELS, verbose=0)


def notes(model, x=X, y=LABELS, loss=NLL):
    diagnosis = uq.diagnose(model, x, y, loss)
    print(diagnosis)
    assert "check-skipped" not in diagnosis.codes
    return {finding.code: finding for finding in diagnosis.findings}


def test_the_doubt_of_an_ensemble_vanishes_where_all_members_are_sure():
    note = notes(ensemble())["blind-far-away"]
    assert not note.problem
    assert "10 times as far" in note.evidence
    assert "mutual information" in note.evidence
    assert "FeatureDensity" in note.advice


def test_random_features_with_a_laplace_posterior_repair_it():
    assert "blind-far-away" not in notes(with_random_features())


def test_regressions_are_judged_by_their_standard_deviation():
    y = X[:, 0]
    growing = keras.Sequential(
        [keras.Input((2,)), uq.DenseVariational(1, kl_weight=1 / ROWS)]
    )
    growing.layers[0].kernel.assign([[1.0], [0.0]])
    assert "blind-far-away" not in notes(growing, y=y, loss="mse")
    saturated = keras.Sequential(
        [
            keras.Input((2,)),
            uq.DenseVariational(16, "tanh", kl_weight=1 / ROWS, seed=1),
            layers.Dense(1, use_bias=False),
        ]
    )
    saturated.layers[0].kernel.assign(RNG.choice([-3.0, 3.0], (2, 16)))
    note = notes(saturated, y=y, loss="mse")["blind-far-away"]
    assert "standard deviation" in note.evidence


def test_silent_where_there_is_no_epistemic_part_or_too_few_rows():
    assert "blind-far-away" not in notes(linear(1.0))
    assert "blind-far-away" not in notes(ensemble(), X[:20], LABELS[:20])
