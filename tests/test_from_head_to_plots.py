"""Every family on the way of a user: head, fit, predict, save, calibrate, plot.

No family is named after the head: each step finds it by itself.
"""

import keras
import numpy as np
import pytest
from backend import to_numpy
from every_family import EVERY_FAMILY
from scipy import stats

import keras_uq_layers as uq

F = uq.families
ROWS, LEVEL = 400, 0.8
each_family = pytest.mark.parametrize("family", EVERY_FAMILY, ids=lambda f: f.name)


def loss_for(family):
    if isinstance(family, F.Quantiles):
        return uq.losses.Pinball(family.levels)
    if isinstance(family, F.Point):
        return uq.losses.CRPS()  # the absolute error: a point has no density
    return uq.losses.NegativeLogLikelihood()


def is_of_classes(family):
    return family.name in ("categorical", "bernoulli")


def data_for(family):
    """A model whose head is right about `y`: `y` is drawn from its params."""
    units = 3 if family.name == "categorical" else 1
    head = uq.DistributionHead(units, family, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((2,)), head])
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).astype("float32")
    if isinstance(family, F.Quantiles | F.Point):
        # Its initial params are quantiles, or the mean, of the standard normal.
        y = np.random.default_rng(1).normal(size=(ROWS, 1))
    else:
        y = to_numpy(family.sample(model(x), seed=1))
    return model, x, y.astype("float32")


@each_family
def test_from_head_to_plots(family, tmp_path):
    model, x, y = data_for(family)
    prediction = uq.predict(model, x, verbose=0)
    assert prediction.family == family
    assert repr(family) in repr(prediction)
    assert len(prediction.to_dataframe()) == ROWS
    if family.name != "categorical":
        if not isinstance(family, F.Point):  # one point has no interval
            assert_covered(prediction, y, family)
            check_serving(model, x, prediction)
        check_calibrators(prediction, y, family)
    check_plots(prediction, x, y, family)
    model.compile(keras.optimizers.SGD(1e-3), loss_for(family), run_eagerly=True)
    logs = model.fit(x, y, batch_size=ROWS, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        uq.predict(again, x[:5], verbose=0).samples,
        uq.predict(model, x[:5], verbose=0).samples,
    )


def assert_covered(prediction, y, family):
    """Within the bounds of a binomial count that fails once in a million."""
    lower, upper = prediction.interval(LEVEL)
    inside = int(((lower <= y) & (y <= upper)).sum())
    least, most = stats.binom.interval(1 - 1e-6, ROWS, LEVEL)
    assert inside >= least
    # With atoms, the interval may have to hold more.
    if not family.discrete and family.name not in ("censored_normal", "bernoulli"):
        assert inside <= most


def check_serving(model, x, prediction):
    served = uq.serving_model(model, level=LEVEL)
    answer = served.predict(x, batch_size=ROWS, verbose=0)  # traces once
    lower, upper = prediction.interval(LEVEL)
    np.testing.assert_allclose(answer["lower"], lower, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answer["upper"], upper, rtol=1e-4, atol=1e-4)


def check_calibrators(prediction, y, family):
    if is_of_classes(family):
        return
    conformal = uq.calibration.ConformalQuantile(level=LEVEL).fit(prediction, y)
    lower, upper = conformal.interval(prediction)
    assert ((lower <= y) & (y <= upper)).mean() >= LEVEL


def check_plots(prediction, x, y, family):
    if is_of_classes(family):
        uq.plotting.reliability_diagram(prediction, y)
    else:
        if not isinstance(family, F.Point):
            uq.plotting.prediction_band(prediction, x[:, 0], y, level=LEVEL)
        if not family.discrete:
            uq.plotting.pit_histogram(prediction, y)
    import matplotlib.pyplot as plt

    plt.close("all")
