"""The fits of `benchmarks/published_fits.py`, on data of the same form.

The data of R are no dependency of the tests: statsmodels is the reference here.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_uq_layers as uq

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the benchmark is on TensorFlow"
)


@pytest.fixture(scope="module")
def fits():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import published_fits
    finally:
        sys.path.remove(str(BENCHMARKS))
    return published_fits


def test_the_maximum_is_that_of_statsmodels(fits):
    """Of counts with zeros of their own, and of the plain ones."""
    discrete = pytest.importorskip("statsmodels.discrete.discrete_model")
    zeros = pytest.importorskip("statsmodels.discrete.count_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    y = rng.poisson(np.exp(0.5 + 0.7 * x)) * rng.binomial(1, 0.7, 300)
    design, single = fits.column(x), fits.constant(300)
    plain, weights = fits.fit(
        uq.families.Poisson(), [design], lambda log: [ops.exp(log)], [0.0], y
    )
    assert weights == 2
    theirs = discrete.Poisson(y, design).fit(disp=0)
    assert abs(plain - theirs.llf) < 1e-3
    inflated, weights = fits.fit(
        uq.families.ZeroInflated("poisson"),
        [design, single],
        lambda log, logit: (ops.exp(log), logit),
        [0.0, 0.0],
        y,
    )
    assert weights == 3
    theirs = zeros.ZeroInflatedPoisson(y, design).fit(disp=0, maxiter=200)
    assert abs(inflated - theirs.llf) < 1e-3
    assert inflated > plain + 10.0


def test_the_median_line_has_as_many_points_above_as_below(fits):
    rng = np.random.default_rng(0)
    x = rng.normal(size=101)
    y = 2.0 * x + rng.standard_t(2, 101)
    design, loss = fits.column(x), uq.losses.Pinball([0.5], dtype="float64")
    model = fits.linear([design], lambda q: [q], [0.0])
    fits.minimise(model, [design], y, loss, smooth=False)
    line = ops.convert_to_numpy(model([design]))[:, 0]
    assert abs(np.count_nonzero(y > line) - np.count_nonzero(y < line)) <= 2


def test_the_difference_is_in_nats_of_log_likelihood(fits):
    one = fits.Fit("d", "m", -100.0, 3, -100.5)
    aic = fits.Fit("d", "m", -100.0, 3, 205.0, is_aic=True)
    assert one.difference == aic.difference == 0.5
    table = list(fits.report([one, aic], [(0.5, 1.0, 2.0, 1.1, 2.1)]))
    assert table[2] == "| d | m | 3 | -100.00 | -100.5 | 0.50 |"
    assert table[3] == "| d | m | 3 | AIC 206.00 | AIC 205.0 | 0.50 |"
    assert table[-1] == "| 0.5 | 1.00 | 2.0000 | 1.10 | 2.1000 |"
