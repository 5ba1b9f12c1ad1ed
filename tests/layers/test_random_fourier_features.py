"""Random Fourier features: the exact kernel, and the exact Gaussian process."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from random_weights import covariance
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels

import keras_uq_layers as uq

RNG = np.random.default_rng(0)
KERNELS = ["gaussian", "laplacian"]


def exact_kernel(name, x, z, scale):
    order = 2 if name == "gaussian" else 1
    distance = np.linalg.norm(x[:, None] - z, order, axis=-1) / scale
    return np.exp(-0.5 * distance**2) if name == "gaussian" else np.exp(-distance)


def features(x, count, kernel, scale, seed=1):
    layer = uq.RandomFourierFeatures(count, scale, kernel, seed=seed)
    return to_numpy(layer(x.astype("float32"))).astype("float64")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [100, 2_000])
def test_the_error_of_the_kernel_is_that_of_a_mean(kernel, count):
    """Its variance is known: (1 + k(2x, 2z) / 2 - k(x, z)^2) / features."""
    x = RNG.normal(size=(20, 3))
    exact = exact_kernel(kernel, x, x, 1.5)
    variance = (1.0 + 0.5 * exact_kernel(kernel, 2 * x, 2 * x, 1.5) - exact**2) / count
    squares = []
    for seed in range(30):
        phi = features(x, count, kernel, 1.5, seed=2 * seed)
        squares.append(np.mean((phi @ phi.T - exact) ** 2 / variance))
    # Each number has mean 1 and, as drawn with NumPy, standard deviation 0.46.
    assert np.mean(squares) == pytest.approx(1.0, abs=4 * 0.46 / np.sqrt(30))


# On a line, both kernels are among those of scikit-learn.
PROCESSES = {"gaussian": kernels.RBF(1.0), "laplacian": kernels.Matern(1.0, nu=0.5)}
NOISE = 0.1


def posterior(phi, y):
    """Mean and variance at all rows, given noisy targets of the first ones.

    Of a linear model with standard normal weights, without inverting a matrix of all
    features.
    """
    near = phi[: len(y)]
    across = phi @ near.T
    gain = across @ np.linalg.inv(near @ near.T + NOISE * np.eye(len(y)))
    return np.stack([gain @ y, np.sum(phi**2 - gain @ near * phi, axis=1)])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_linear_model_on_the_features_becomes_a_gaussian_process(kernel):
    """The error of mean and variance falls with the root of the features."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-2, 2, 15), np.linspace(-6, 6, 25)])[:, None]
    y = np.sin(2 * x[:15, 0])
    process = GaussianProcessRegressor(PROCESSES[kernel], alpha=NOISE, optimizer=None)
    mean, std = process.fit(x[:15], y).predict(x, return_std=True)
    exact = np.stack([mean, std**2])

    def error(count):
        """Of mean and variance, root of the mean square over seeds and grid."""
        found = [
            posterior(features(x, count, kernel, 1.0, seed), y)
            for seed in range(0, 16, 2)
        ]
        return np.sqrt(np.mean((found - exact) ** 2, axis=(0, 2)))

    few, many = error(100), error(1_600)
    assert np.all(many < 0.08)
    np.testing.assert_allclose(many / few, 1 / 4, rtol=0.5)
    # Far from the data the variance is again that of the prior.
    assert exact[1, 15] > 0.99

    # With `to_laplace` a Keras model has this posterior.
    phi = features(x, 100, kernel, 1.0)
    layer = uq.RandomFourierFeatures(100, 1.0, kernel, seed=1)
    last = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), layer, last])
    near = phi[:15]
    best = near.T @ np.linalg.solve(near @ near.T + NOISE * np.eye(15), y)
    last.set_weights([best[:, None]])
    model.compile("adam", "mse")
    model = uq.to_laplace(
        model, x[:15], y, prior_precision=1.0, noise_scale=NOISE**0.5, verbose=0
    )
    mean = to_numpy(uq.to_deterministic(model)(x.astype("float32")))[:, 0]
    variance = np.sum(phi @ covariance(model.layers[-1]) * phi, axis=1)
    np.testing.assert_allclose([mean, variance], posterior(phi, y), atol=1e-4)


@pytest.mark.parametrize(("kernel", "order"), [("gaussian", 2), ("laplacian", 1)])
def test_adapt_takes_the_median_distance(kernel, order):
    x = RNG.normal(3.0, 5.0, (60, 4))
    pairs = np.linalg.norm(x[:, None] - x, order, axis=-1)
    expected = np.median(pairs[np.triu_indices(60, 1)])
    before = uq.RandomFourierFeatures(8, kernel=kernel)
    before.adapt(x)
    before.build((None, 4))
    after = uq.RandomFourierFeatures(8, kernel=kernel)
    after.build((None, 4))
    after.adapt(x[i : i + 7].astype("float32") for i in range(0, 60, 7))
    in_steps = uq.RandomFourierFeatures(8, kernel=kernel)
    in_steps.build((None, None, 4))
    in_steps.adapt(x.reshape(12, 5, 4))
    for layer in (before, after, in_steps):
        assert float(layer.kernel_scale) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_adapt_the_scale_is_that_of_standardised_inputs(kernel):
    layer = uq.RandomFourierFeatures(8, kernel=kernel)
    layer.build((None, 30))
    adapted = uq.RandomFourierFeatures(8, kernel=kernel)
    adapted.adapt(RNG.normal(size=(2000, 30)))
    adapted.build((None, 30))
    scales = [float(part.kernel_scale) for part in (layer, adapted)]
    assert scales[0] == pytest.approx(scales[1], rel=0.05)


def test_sorted_rows_are_all_represented():
    """More rows than are used: those that are used come from everywhere."""
    x = np.repeat([[0.0], [1.0]], 3000, axis=0) + 1e-3 * RNG.normal(size=(6000, 1))
    layer = uq.RandomFourierFeatures(8)
    layer.adapt(list(x[:, None]))
    layer.build((None, 1))
    # Half of the pairs lie on both sides: the median is between the two.
    assert 0.001 < float(layer.kernel_scale) < 1.01
    layer.adapt(x[:3000])
    assert float(layer.kernel_scale) < 0.002


def test_the_adapted_scale_is_saved(tmp_path):
    layer = uq.RandomFourierFeatures(8, seed=3)
    layer.adapt(RNG.normal(0.0, 7.0, (50, 2)))
    model = keras.Sequential([keras.Input((2,)), layer, keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = RNG.normal(size=(4, 2)).astype("float32")
    np.testing.assert_allclose(to_numpy(loaded(x)), to_numpy(model(x)), rtol=1e-6)
    assert float(loaded.layers[0].kernel_scale) > 5


def test_half_precision_keeps_the_phase():
    """Ten thousand kernel scales away a float16 has no phase any more."""
    x = np.full((1, 3), 1e4, "float32")
    seen = [
        to_numpy(uq.RandomFourierFeatures(50, 1.0, seed=1, dtype=dtype)(x))
        for dtype in ("float32", "mixed_float16")
    ]
    np.testing.assert_allclose(*seen, atol=2e-4)


def test_the_seed_decides_and_directions_are_no_phases():
    first, again, other = (
        features(np.ones((1, 3)), 9, "gaussian", 1.0, s) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    layer = uq.RandomFourierFeatures(500, kernel="laplacian", seed=1)
    layer.build((None, 1))
    ranks = [
        np.argsort(np.argsort(to_numpy(w).ravel()))
        for w in (layer.directions, layer.phases)
    ]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"features": 0},
            "`features` must be a positive integer. Received: features=0",
        ),
        ({"features": 2, "kernel": "cosine"}, "`kernel` must be one of 'gaussian', "),
        (
            {"features": 2, "kernel_scale": "median"},
            "`kernel_scale` must be one of 'auto'",
        ),
        (
            {"features": 2, "kernel_scale": 0.0},
            "`kernel_scale` must be a positive finite",
        ),
    ],
)
def test_errors_of_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        uq.RandomFourierFeatures(**arguments)


def test_errors_of_adapt():
    layer = uq.RandomFourierFeatures(2)
    for x, message in [
        (np.ones((1, 2)), r"rows that differ.*Received: 1 row\(s\)"),
        (np.ones((5, 2)), "rows that differ.*median distance 0"),
        (np.array([[1.0], [np.nan]]), r"`x` must be finite. Received: 1 NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer.adapt(x)
    with pytest.raises(
        ValueError, match=r"needs kernel_scale='auto'.*kernel_scale=2\.0"
    ):
        uq.RandomFourierFeatures(2, kernel_scale=2.0).adapt(np.eye(3))
    with pytest.raises(ValueError, match="last axis of the input of `RandomFourier"):
        layer.build((None, None))
