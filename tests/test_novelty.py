"""Scores of unknown inputs: the formulas, the ways in, files, errors."""

import keras
import numpy as np
import pytest
from backend import to_numpy

import keras_uq_layers as uq
from keras_uq_layers.novelty import ClassDensity
from keras_uq_layers.novelty import FeatureDensity
from keras_uq_layers.novelty import energy
from keras_uq_layers.testing import check_layer

RNG = np.random.default_rng(0)
COVARIANCES = ["shared", "own"]
CENTRES = np.array([[0.0, 0.0, 100.0], [6.0, 0.0, 100.0], [0.0, 6.0, 100.0]])
Y = np.repeat([0, 1, 2], [50, 30, 20])
X = (CENTRES[Y] + RNG.normal(size=(100, 3)) * [1.0, 0.3, 2.0]).astype("float32")


def classifier():
    """A model whose features are its inputs."""
    same = keras.layers.Dense(3, kernel_initializer="identity", name="same")
    return keras.Sequential([keras.Input((3,)), same, keras.layers.Dense(3)])


MODEL = classifier()


def fitted(covariance="shared", x=X, y=Y, **kwargs):
    return FeatureDensity(MODEL, covariance=covariance, **kwargs).fit(x, y, verbose=0)


def scores(density, x):
    """As `score`, without a compiled program for each density."""
    return to_numpy(density.scorer(x))


def shrunk(rows):
    """The covariance after oracle approximating shrinkage, Chen et al., eq. 23."""
    (n, p), s = rows.shape, np.cov(rows.T, bias=True)
    trace, of_square = np.trace(s), np.trace(s @ s)
    share = ((1 - 2 / p) * of_square + trace**2) / (
        (n + 1 - 2 / p) * (of_square - trace**2 / p)
    )
    assert 0 < share < 1
    return (1 - share) * s + share * trace / p * np.eye(p)


def expected_scores(covariance, x):
    means = [X[np.equal(Y, c)].mean(axis=0, dtype="float64") for c in range(3)]
    centred = [X[np.equal(Y, c)] - means[c] for c in range(3)]
    shared = [shrunk(np.concatenate(centred))] * 3
    covariances = shared if covariance == "shared" else list(map(shrunk, centred))
    distances = np.stack(
        [
            np.sum((x - m) @ np.linalg.inv(c) * (x - m), axis=1)
            for m, c in zip(means, covariances, strict=True)
        ],
        axis=1,
    )
    if covariance == "shared":
        return distances.min(axis=1)
    log_dets = [np.linalg.slogdet(2 * np.pi * c)[1] for c in covariances]
    log_p = np.log([0.5, 0.3, 0.2]) - 0.5 * np.array(log_dets) - 0.5 * distances
    return -np.log(np.sum(np.exp(log_p), axis=1))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_score_is_the_one_of_the_paper(covariance):
    x = (CENTRES[Y] + RNG.normal(size=(100, 3)) * 2).astype("float32")
    found = fitted(covariance).score(x, verbose=0)
    assert found.shape == (100,)
    np.testing.assert_allclose(found, expected_scores(covariance, x), rtol=1e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_far_is_more_novel_than_any_training_row(covariance):
    far = (1000.0 * RNG.normal(size=(20, 3))).astype("float32")
    density = fitted(covariance)
    assert scores(density, far).min() > scores(density, X).max()
    assert np.isfinite(scores(density, 1e15 * far)).all()
    far[3, 1] = np.nan
    assert np.flatnonzero(np.isnan(scores(density, far))).tolist() == [3]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[25 * index : 25 * index + 25], Y[25 * index : 25 * index + 25]


def test_all_ways_to_name_the_layer_and_to_give_the_data():
    expected = scores(fitted(), X[:5])
    for layer in (0, -2, "same", MODEL.layers[0]):
        assert FeatureDensity(MODEL, layer).features.output is MODEL.layers[0].output
    loader = [(X[:60], np.eye(3)[Y[:60]]), (X[60:], np.eye(3)[Y[60:]])]
    given = [
        fitted(x=Batches(), y=None),
        fitted(x=iter(loader), y=None),
        fitted(y=Y[:, None].astype("float32")),
        fitted(y=10 - Y),
        FeatureDensity(MODEL, covariance="shared").fit(X, Y, batch_size=7, verbose=0),
    ]
    for density in given:
        np.testing.assert_allclose(scores(density, X[:5]), expected, rtol=1e-4)


def test_without_labels_there_is_one_class():
    without = scores(fitted(y=None), X)
    np.testing.assert_allclose(without, scores(fitted(y=0 * Y), X), rtol=1e-5)
    assert np.abs(without - scores(fitted(), X)).max() > 1


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_feature_that_never_changes_and_fewer_rows_than_features(covariance):
    """Both make the covariance singular without shrinkage."""
    x = RNG.normal(size=(8, 3)).astype("float32")
    x[:, 1] = 5.0
    density = fitted(covariance, x, np.arange(8) % 4)
    before = scores(density, x)
    x[:, 1] = 9.0
    after = scores(density, x)
    assert np.isfinite(after).all()
    assert (after > before).all()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_scorer_is_a_model_in_a_file(covariance, tmp_path):
    density = fitted(covariance)
    density.scorer.save(tmp_path / "density.keras")
    loaded = keras.saving.load_model(tmp_path / "density.keras", safe_mode=True)
    np.testing.assert_allclose(to_numpy(loaded(X)), scores(density, X), rtol=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_layer_of_the_scorer(covariance):
    def make(**kwargs):
        layer = ClassDensity(covariance, 2, **kwargs)
        layer.build((None, 3))
        layer.means.assign(RNG.normal(size=(2, 3)))
        layer.roots.assign(np.broadcast_to(np.eye(3), layer.roots.shape))
        return layer

    check_layer(
        make,
        half_precision_output=False,
        time_distributed=False,
        trainable=0,
        non_trainable=3,
    )


def test_energy():
    logits = RNG.normal(size=(5, 4))
    for temperature in (0.5, 1.0, 20.0):
        expected = -temperature * np.log(np.exp(logits / temperature).sum(axis=1))
        found = to_numpy(energy(logits.astype("float32"), temperature))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    huge = to_numpy(energy(np.array([[3e38, 3e38], [-3e38, 0.0]], "float32")))
    np.testing.assert_allclose(huge, [-3e38, 0.0])
    half = energy(np.array([[6e4, 6e4]], "float16"))
    np.testing.assert_allclose(to_numpy(half), [-6e4 - np.log(2)], rtol=1e-4)
    with pytest.raises(ValueError, match="`temperature` must be a positive finite"):
        energy(logits, 0.0)


def test_errors_of_the_model():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    image = keras.Sequential(
        [keras.Input((4, 3)), keras.layers.Dense(2), keras.layers.Flatten()]
    )
    for model, kwargs, message in [
        (Subclassed(), {}, "Sequential or Functional model that is built"),
        (keras.Sequential([keras.layers.Dense(1)]), {}, "model that is built"),
        (uq.Ensemble(classifier, 2), {}, "Of an ensemble, take a member"),
        (image, {}, r"one output of shape \(batch, F\).*'dense"),
        (MODEL, {"layer": -3}, r"index: 'same', .*Received: layer=-3"),
        (MODEL, {"layer": "other"}, "Received: layer='other'"),
        (MODEL, {"covariance": "full"}, "`covariance` must be one of 'shared', 'own'"),
    ]:
        with pytest.raises(ValueError, match=message):
            FeatureDensity(model, **kwargs)


def test_errors_of_the_data():
    bad = X.copy()
    bad[0, 0] = np.nan
    density = FeatureDensity(MODEL)
    for x, y, message in [
        (X, RNG.normal(size=100), r"labels \(N,\).*give x alone"),
        (X, np.arange(100), "at least 2 rows of each class.*1 row of class 0"),
        (X, Y[:50], "as many rows. Received: 50 and 100 rows"),
        (X[:0], Y[:0], "at least one example"),
        (Batches(), Y, "`y` must be None where `x` is an iterable"),
        (bad, Y, "finite features. Received: 3 NaN"),
        (np.ones((6, 3)), None, "features must vary"),
    ]:
        with pytest.raises(ValueError, match=message):
            density.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="call `fit` first"):
        density.score(X)


def test_random_features_are_an_error():
    model = keras.Sequential(
        [keras.Input((3,)), uq.MCDropout(0.5), keras.layers.Dense(3)]
    )
    with pytest.raises(ValueError, match=r"must not be random.*uq\.to_deterministic"):
        FeatureDensity(model).fit(X, Y, verbose=0)
