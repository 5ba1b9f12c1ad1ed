"""The fits of `benchmarks/published_fits.py`, on data of the same form.

The data of R are no dependency of the tests: statsmodels is the reference here.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.stats
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
    gain = fits.Gain("m", 1.8, 1.81, 1.79, 0.01)
    table = list(fits.report([one, aic], [(0.5, 1.0, 2.0, 1.1, 2.1)], [gain]))
    assert table[2] == "| d | m | 3 | -100.00 | -100.5 | 0.50 |"
    assert table[3] == "| d | m | 3 | AIC 206.00 | AIC 205.0 | 0.50 |"
    assert table[4] == table[8] == ""
    assert table[-1] == "| m | 1.8000 | 1.8100 | 1.7900 | 0.0200±0.0100 |"
    assert table[7] == "| 0.5 | 1.00 | 2.0000 | 1.10 | 2.1000 |"


def test_rows_that_are_left_out_do_not_train(fits):
    """Of a constant normal: mean and deviation are those of the other blocks."""
    y = np.array([[0.0], [1.0], [4.0], [1e3], [2.0], [3.0]])
    blocks = np.array([0, 0, 1, 1, 2, 2])
    designs = [fits.constant(6), fits.constant(6)]
    model = fits.linear(designs, fits.scaled, [1.0, 0.5])
    found = fits.left_out(model, uq.families.Normal(), designs, y, blocks)
    for block in range(3):
        others, own = y[blocks != block, 0], y[blocks == block, 0]
        exact = -scipy.stats.norm(others.mean(), others.std()).logpdf(own)
        np.testing.assert_allclose(found[blocks == block], exact, rtol=1e-5)


def test_the_hidden_layer_starts_at_the_linear_model(fits):
    design = fits.column(np.array([1.0, 2.0, 5.0]))
    arguments = [design, design], fits.scaled, [1.0, 0.5]
    models = fits.linear(*arguments), fits.curved(*arguments, units=2)
    one, other = (ops.convert_to_numpy(m([design, design])) for m in models)
    np.testing.assert_array_equal(one, other)
    assert len(models[1].losses) == 2
