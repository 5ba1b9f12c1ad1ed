"""Conformal prediction around finished models, of Keras and of any other library."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_uq_layers as uq
from keras_uq_layers.calibration import AdaptivePredictionSets
from keras_uq_layers.calibration import ConformalQuantile
from keras_uq_layers.calibration import LeastAmbiguousSets
from keras_uq_layers.calibration import SplitConformal

RESAMPLES, COUNT, NEW, LEVEL = 500, 99, 101, 0.9
RNG = np.random.default_rng(0)


def world(count):
    """The noise grows with x, of which a plain regressor knows nothing."""
    x = RNG.uniform(-1.0, 1.0, size=(count, 2))
    noise = (0.2 + np.abs(x[:, 0])) * RNG.standard_t(4, size=count)
    return x.astype("float32"), (np.sin(3.0 * x[:, 0]) + x[:, 1] + noise)


def least_squares(x, y):
    """What a linear regressor of scikit-learn is, as its `predict`."""
    weights, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    return lambda x: np.column_stack([x, np.ones(len(x))]) @ weights


@pytest.fixture(scope="module")
def finished():
    """A regressor of another library and a Keras model, both trained, and new data."""
    x, y = world(400)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, epochs=5, verbose=0)
    regressor = least_squares(x, y)
    second = least_squares(np.abs(x), np.abs(y - regressor(x)))
    x, y = world(2000)
    scale = np.maximum(second(np.abs(x)), 1e-3)
    return uq.predict(model, x, verbose=0), regressor(x), scale, y


def splits(y):
    """Many splits of the same data into a calibration set and a new one."""
    for _ in range(RESAMPLES):
        rows = RNG.permutation(len(y))
        yield rows[:COUNT], rows[COUNT : COUNT + NEW]


def assert_covered(calibrate, y):
    """One new target for each resample: covered as often as a binomial count is.

    The probability of `COUNT` scores is exactly `level` (99 + 1 is a multiple
    of 10), so that the number of new targets inside is binomial.
    """
    inside = 0
    for rows, new in splits(y):
        lower, upper = calibrate(rows, new)
        assert lower.shape == y[new].shape
        inside += int(((lower <= y[new]) & (y[new] <= upper)).flat[0])
    least, most = stats.binom.interval(1 - 1e-6, RESAMPLES, LEVEL)
    assert least <= inside <= most


def test_two_lines_around_a_regressor_of_any_library(finished):
    _, y_hat, _, y = finished

    def calibrate(rows, new):
        calibrator = SplitConformal(LEVEL).fit(y_hat[rows], y[rows])
        return calibrator.interval(y_hat[new])

    assert_covered(calibrate, y)


def test_two_lines_around_a_keras_model_of_squared_errors(finished):
    prediction, _, _, y = finished
    column = y[:, None]

    def calibrate(rows, new):
        calibrator = SplitConformal(LEVEL).fit(prediction[rows], y[rows])
        return calibrator.interval(prediction[new])

    assert_covered(calibrate, column)
    absolute = SplitConformal(LEVEL).fit(prediction, y)
    quantile = ConformalQuantile(LEVEL).fit(prediction, y)
    assert absolute.residuals == "absolute"
    # An interval of width 0 is moved by the same threshold.
    np.testing.assert_allclose(absolute.threshold, quantile.threshold)
    assert ConformalQuantile(LEVEL).fit(prediction, y).interval(prediction)


def test_residuals_scaled_by_a_second_model(finished):
    _, y_hat, scale, y = finished

    def calibrate(rows, new):
        calibrator = SplitConformal(LEVEL).fit(y_hat[rows], y[rows], scale[rows])
        return calibrator.interval(y_hat[new], scale[new])

    assert_covered(calibrate, y)
    calibrator = SplitConformal(LEVEL).fit(y_hat, y, scale)
    lower, upper = calibrator.interval(y_hat, scale)
    np.testing.assert_allclose(upper - lower, 2 * calibrator.threshold * scale)
    for wrong, text in ((None, "given, as it was to"), (-scale, "must be positive")):
        with pytest.raises(ValueError, match=f"`scale` must be.*{text}|`scale` {text}"):
            calibrator.interval(y_hat, wrong)
    with pytest.raises(ValueError, match=r"`scale` must have shape \(2000, 1\)"):
        calibrator.fit(y_hat, y, scale[:7])
    with pytest.raises(ValueError, match="`scale` must be None, as for `fit`"):
        SplitConformal(LEVEL).fit(y_hat, y).interval(y_hat, scale)


def test_residuals_scaled_by_the_spread_of_passes():
    x, y = world(200)
    members = np.stack([least_squares(x[i::5], y[i::5])(x) for i in range(5)])
    passes = uq.Prediction(members[..., None], "point")
    calibrator = SplitConformal(LEVEL).fit(passes, y)
    assert calibrator.residuals == "std"
    lower, upper = calibrator.interval(passes)
    np.testing.assert_allclose(
        upper - lower, 2 * calibrator.threshold * passes.epistemic_std
    )
    assert np.mean((lower[:, 0] <= y) & (y <= upper[:, 0])) >= LEVEL
    with pytest.raises(ValueError, match=r"must have a std, as the one of `fit` had"):
        calibrator.interval(passes.mean)
    # Its mean alone has no spread.
    assert SplitConformal(LEVEL).fit(passes.mean, y).residuals == "absolute"


def test_two_quantile_regressions_of_any_library():
    x, y = world(300)
    ends = np.sin(3.0 * x[:, 0]) - 0.2, np.sin(3.0 * x[:, 0]) + 0.2
    for given in (ends, tuple(end[:, None] for end in ends)):
        lower, upper = ConformalQuantile(LEVEL).fit(given, y).interval(given)
        assert lower.shape == given[0].shape
        assert LEVEL <= np.mean((lower.ravel() <= y) & (y <= upper.ravel())) < 0.91
    with pytest.raises(ValueError, match=r"`upper` must have shape \(300, 1\)"):
        ConformalQuantile(LEVEL).fit((ends[0], ends[1][:7]), y)


# Of MAPIE 1.6 on the scores below, at the levels 0.5, 0.8 and 0.9:
# `SplitConformalRegressor` around a finished regressor, the rule of
# `SplitConformalClassifier` on scores without a random part, its regularization of
# them (a penalty of 0.1 from the second class on), and its "lac".
MAPIE = {
    20: {
        "residuals": [1.0676668944156276, 2.407029826595119, 2.6132835415596354],
        "sets": [0.8918591337572314, 0.9712648540424771, 1.0],
        "regularized": [0.986090273212705, 1.0712648540424772, 1.2],
        "least": [0.6689285846204354, 0.8250158468394896, 0.8782695878412325],
    },
    100: {
        "residuals": [1.1857263195672414, 2.159142674357728, 2.61601034561893],
        "sets": [0.9408709313248271, 1.0, 1.0],
        "regularized": [1.0408709313248272, 1.2, 1.2],
        "least": [0.7267556478621278, 0.9164386956713035, 0.9594822310766767],
    },
    257: {
        "residuals": [0.9761410887219318, 1.7118803529995918, 2.3111141616441917],
        "sets": [0.9098064346673622, 1.0, 1.0],
        "regularized": [1.008531448089399, 1.2, 1.2],
        "least": [0.690919056512016, 0.8952877020305944, 0.951404343063179],
    },
}


@pytest.mark.parametrize("count", MAPIE)
def test_thresholds_are_those_of_mapie(count):
    rng = np.random.default_rng(count)
    y_hat, y = rng.normal(size=(2, count))
    p, labels = rng.dirichlet(np.ones(3), size=count), rng.integers(0, 3, count)
    labels[:3] = [0, 1, 2]
    seen = (0.5, 0.8, 0.9), *MAPIE[count].values()
    for level, residual, share, regularized, least in zip(*seen, strict=True):
        found = SplitConformal(level).fit(y_hat, y)
        np.testing.assert_allclose(found.threshold, [residual], rtol=1e-12)
        # MAPIE's `ConformalizedQuantileRegressor`, with a symmetric correction.
        ends = ConformalQuantile(level).fit((y_hat - 0.5, y_hat + 0.5), y)
        np.testing.assert_allclose(ends.threshold, [residual - 0.5], rtol=1e-12)
        sets = AdaptivePredictionSets(level, randomized=False).fit(p, labels)
        np.testing.assert_allclose(sets.threshold, share, rtol=1e-12)
        sets = AdaptivePredictionSets(level, randomized=False, penalty=0.1)
        sets.fit(p, labels)
        np.testing.assert_allclose(sets.threshold, regularized, rtol=1e-12)
        sets = LeastAmbiguousSets(level).fit(p, labels)
        np.testing.assert_allclose(sets.threshold, least, rtol=1e-12)
        # And its rule: NumPy's quantile of a level that is a little higher.
        rank = np.ceil((count + 1) * level - 1e-9) / count
        rule = np.quantile(np.abs(y - y_hat), rank, method="lower")
        np.testing.assert_allclose(residual, rule, rtol=1e-12)
