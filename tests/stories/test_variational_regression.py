"""A cubic with noise that depends on x, and three hidden variational layers.

`benchmarks/variational_regression.py` has the whole of it.
"""

import keras
import numpy as np
import pytest
from backend import steps_per_execution
from backend import to_numpy
from random_weights import POSTERIORS

import keras_uq_layers as uq


@pytest.mark.slow
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_error_grows_outside_of_the_data(posterior):
    """One seed and a third of the epochs; the benchmark has ten and all."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 2.0, size=(5000, 1))
    y = x**3 + 0.1 * (2.0 + x) * rng.normal(size=x.shape)
    options = {"kl_weight": 1 / 5000, "posterior": posterior}
    # The classic map is there sooner: with the default one, the mean-field spread
    # inside of the data is still large after so few epochs.
    head = uq.DistributionHead(1, parameterization="scale")
    model = keras.Sequential(
        [*(uq.DenseVariational(16, "relu", **options) for _ in range(3)), head]
    )
    epochs, steps = 20, 5000 // 50
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, epochs * steps)
        ),
        uq.losses.NegativeLogLikelihood(),
        jit_compile=False,
        steps_per_execution=steps_per_execution(steps),
    )
    history = model.fit(x, y, batch_size=50, epochs=epochs, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    grid = np.linspace(-3.0, 4.0, 141)[:, None]
    params = np.stack([to_numpy(model(grid)) for _ in range(50)])
    inside = (grid[:, 0] >= -1) & (grid[:, 0] <= 2)
    error = (params[..., 0].mean(axis=0) - grid[:, 0] ** 3)[inside]
    assert np.sqrt(np.mean(error**2)) < 0.1
    noise = params[..., 1].mean(axis=0)[inside] / (0.1 * (2.0 + grid[inside, 0]))
    assert abs(noise.mean() - 1.0) < 0.15
    spread = params[..., 0].std(axis=0)
    assert spread[[0, -1]].min() > 3 * spread[inside].mean()
