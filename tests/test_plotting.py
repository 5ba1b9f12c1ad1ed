"""What is drawn, read from the Axes."""

import importlib.util
import sys

import numpy as np
import pytest
from backend import to_numpy
from scipy import stats

import keras_uq_layers as uq

plt = pytest.importorskip("matplotlib.pyplot")
plotting = uq.plotting


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def regression(n=400, factor=1.0, passes=5):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, n)
    loc = x + 0.3 * rng.normal(size=(passes, 1))
    params = np.stack([loc, np.full_like(loc, factor)], axis=-1)
    return uq.Prediction(params, "normal"), x, x + rng.normal(size=n)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_band_is_the_interval_and_holds_the_epistemic_part(ax):
    prediction, x, y = regression()
    assert plotting.prediction_band(prediction, x, y, level=0.9, ax=ax) is ax
    outer, inner = (c.get_paths()[0].vertices for c in ax.collections)
    lower, upper = prediction.interval(0.9)
    np.testing.assert_allclose(outer[:, 1].min(), lower.min(), rtol=1e-5)
    np.testing.assert_allclose(outer[:, 1].max(), upper.max(), rtol=1e-5)
    assert np.ptp(inner[:, 1]) < np.ptp(outer[:, 1])
    height = stats.norm.ppf(0.95) * prediction.epistemic_std.max()
    np.testing.assert_allclose(
        inner[:, 1].max(), prediction.mean.max() + height, rtol=0.01
    )
    mean, points = ax.lines
    assert (np.diff(mean.get_xdata()) >= 0).all()
    assert len(points.get_xdata()) == len(x)
    assert legend(ax) == ["90 % interval", "epistemic", "mean", "observed"]


def test_no_epistemic_band_where_there_is_one_pass(ax):
    prediction, x, _ = regression(passes=1)
    plotting.prediction_band(prediction, x, ax=ax)
    assert len(ax.collections) == 1
    assert legend(ax) == ["95 % interval", "mean"]


def test_a_band_for_each_level_the_widest_first(ax):
    prediction, x, _ = regression(passes=1)
    plotting.prediction_band(prediction, x, level=[0.5, 0.995], ax=ax)
    assert legend(ax) == ["99.5 % interval", "50 % interval", "mean"]
    outer, inner = (c.get_paths()[0].vertices[:, 1] for c in ax.collections)
    assert outer.min() < inner.min() < inner.max() < outer.max()


@pytest.mark.parametrize(
    ("family", "params"),
    [
        (uq.families.Quantiles([0.1, 0.6, 0.9]), [0.0, 1.0, 4.0]),
        (uq.families.StudentT(df=1.0), [1.0, 2.0]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_median_where_a_family_has_no_mean(ax, family, params):
    prediction = uq.Prediction(np.tile(params, (1, 3, 1)), family)
    plotting.prediction_band(prediction, np.arange(3), level=0.8, ax=ax)
    assert legend(ax) == ["80 % interval", "median"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), prediction.quantile(0.5)[:, 0])


FAMILIES = {
    "poisson": (uq.families.Poisson(), [0.7]),
    "censored": (uq.families.CensoredNormal(lower=0.0, upper=2.0), [0.5, 1.0]),
    "gamma": (uq.families.Gamma(), [2.0, 1.5]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_right_model_has_a_flat_histogram_also_at_jumps(ax, name):
    """Targets drawn from the prediction: each bar within 4 standard errors of 1."""
    family, params = FAMILIES[name]
    n, bins = 4000, 8
    params = np.tile(params, (n, 1)).astype("float32")
    y = to_numpy(family.sample(params, seed=1))
    prediction = uq.Prediction(params[None], family)
    plotting.pit_histogram(prediction, y, bins=bins, ax=ax)
    bars = [p for p in ax.patches if p.get_width() < 0.2]
    error = np.sqrt((bins - 1) / n)
    np.testing.assert_allclose([b.get_height() for b in bars], 1.0, atol=4 * error)
    plotting.reliability_diagram(prediction, y, bins=bins, ax=ax)
    diagonal = ax.lines[-1]
    gap = np.abs(diagonal.get_ydata() - diagonal.get_xdata())
    assert gap.max() < 4 * 0.5 / np.sqrt(n)


def test_outside_the_outermost_quantiles_a_target_is_anywhere(ax):
    prediction = uq.Prediction(
        np.tile([0.0, 1.0], (1, 4, 1)), uq.families.Quantiles([0.25, 0.75])
    )
    plotting.pit_histogram(prediction, [-1.0, 0.25, 0.75, 9.0], bins=4, ax=ax)
    heights = [p.get_height() for p in ax.patches if p.get_width() < 0.3]
    np.testing.assert_allclose(heights, 1.0, rtol=1e-5)


@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_classes_have_no_bands_and_no_pit(ax, family):
    prediction = uq.ClassPrediction(np.ones((1, 4, 2)), family)
    for draw in (
        lambda: plotting.prediction_band(prediction, np.arange(4), ax=ax),
        lambda: plotting.pit_histogram(prediction, np.ones(4), ax=ax),
        lambda: plotting.coverage_width(prediction, np.ones(4), ax=ax),
    ):
        with pytest.raises(ValueError, match="for classes use `reliability_diagram`"):
            draw()


def test_the_style_ends_with_its_block_and_is_that_of_the_functions():
    names = ["axes.prop_cycle", "axes.spines.top", "legend.frameon"]
    before = [plt.rcParams[name] for name in names]
    with plotting.style():
        figure, (left, right) = plt.subplots(1, 2)
        assert [plt.rcParams[name] for name in names] != before
    assert [plt.rcParams[name] for name in names] == before
    assert not left.spines["top"].get_visible()
    plotting.training_curve({"loss": [1.0], "val_loss": [1.0]}, ax=right)
    colors = [line.get_color() for line in right.lines]
    assert colors == [plotting.BLUE, plotting.ORANGE]
    assert not right.get_legend().get_frame_on()
    plt.close(figure)


def test_reliability_of_a_regression(ax):
    prediction, _, y = regression(factor=2.0, passes=1)
    plotting.reliability_diagram(prediction, y, bins=9, ax=ax)
    diagonal, model = ax.lines
    pit = prediction.cdf(y).ravel()
    np.testing.assert_allclose(model.get_ydata()[0], (pit <= 0.1).mean())
    # Too wide: fewer targets in the tails than predicted.
    assert model.get_ydata()[0] < 0.1 < 0.9 < model.get_ydata()[-1]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_reliability_of_classes(ax, family):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 3000, 2 if family == "categorical" else 1))
    prediction = uq.ClassPrediction(3 * logits, family)  # three times too sure
    p = 1 / (
        1
        + np.exp(
            logits[0, :, 0]
            - (logits[0, :, 1] if family == "categorical" else 2 * logits[0, :, 0])
        )
    )
    y = (rng.uniform(size=3000) < p).astype(int)
    plotting.reliability_diagram(prediction, y, ax=ax)
    model = ax.lines[1]
    assert (model.get_ydata()[-3:] < model.get_xdata()[-3:]).all()
    assert ax.get_xlabel() == "confidence"


def test_pit_histogram_is_a_density(ax):
    prediction, _, y = regression()
    plotting.pit_histogram(prediction, y, bins=10, ax=ax)
    bars = [p for p in ax.patches if p.get_width() < 0.2]
    assert len(bars) == 10
    np.testing.assert_allclose(sum(b.get_height() for b in bars) / 10, 1.0)


def test_coverage_grows_with_width(ax):
    prediction, _, y = regression()
    wide, *_ = regression(factor=3.0)
    plotting.coverage_width({"a": prediction, "b": wide}, y, ax=ax)
    curves = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert len(curves) == 2
    for curve in curves:
        assert (np.diff(curve.get_xdata()) > 0).all()
        assert (np.diff(curve.get_ydata()) >= 0).all()


def test_risk_over_coverage_is_the_curve_of_the_metric(ax):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 200, 3))
    y = (logits.mean(axis=0) + rng.gumbel(size=(200, 3))).argmax(axis=1)
    prediction = uq.ClassPrediction(logits, "categorical")
    plotting.risk_coverage({"all": prediction, "p": prediction.mean}, y, ax=ax)
    one, other = ax.lines
    np.testing.assert_allclose(one.get_ydata(), other.get_ydata())
    assert one.get_xdata()[-1] == 1.0
    wrong = prediction.mean.argmax(axis=1) != y
    np.testing.assert_allclose(one.get_ydata()[-1], wrong.mean(), rtol=1e-5)
    metric = uq.metrics.AURC(uq.families.Categorical(from_logits=False))
    metric.update_state(y, prediction.mean)
    assert legend(ax)[0] == f"all, AURC {float(metric.result()):.2g}"
    assert ax.get_ylabel() == "error rate among them"


def test_risk_over_coverage_of_a_regression_and_of_equal_scores(ax):
    prediction, _, y = regression()
    square = lambda prediction, y: (prediction.mean[:, 0] - y) ** 2  # noqa: E731
    plotting.risk_coverage(prediction, y, score=lambda p: y * 0, loss=square, ax=ax)
    (line,) = ax.lines
    mean = square(prediction, y).mean()
    np.testing.assert_allclose(line.get_ydata(), [mean, mean], rtol=1e-4)
    assert ax.get_ylabel() == "mean loss among them"


def test_training_curve_with_its_reference(ax):
    history = {"loss": [2.0, 0.5, -0.5], "val_loss": [2.0, 1.0, 0.9], "mae": [1, 1, 1]}
    plotting.training_curve(history, reference=1.4, ax=ax)
    loss, validation, reference = ax.lines
    np.testing.assert_array_equal(loss.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(validation.get_ydata(), history["val_loss"])
    assert set(reference.get_ydata()) == {1.4}
    assert ax.get_yscale() == "linear"
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_current_axes_by_default():
    figure, axes = plt.subplots()
    assert plotting.training_curve({"loss": [1.0, 0.5]}) is axes
    plt.close(figure)


def test_errors(ax):
    prediction, x, y = regression()
    with pytest.raises(ValueError, match="`x` must have one value per example"):
        plotting.prediction_band(prediction, x[:3], ax=ax)
    with pytest.raises(ValueError, match="with an output 1"):
        plotting.prediction_band(prediction, x, output=1, ax=ax)
    with pytest.raises(ValueError, match="`level` must be"):
        plotting.prediction_band(prediction, x, level=1.0, ax=ax)
    with pytest.raises(ValueError, match="`bins` must be a positive integer"):
        plotting.pit_histogram(prediction, y, bins=0, ax=ax)
    with pytest.raises(ValueError, match="`names` must be among"):
        plotting.training_curve({"loss": [1.0]}, names=["nll"], ax=ax)


def test_matplotlib_is_imported_by_the_first_figure_only(monkeypatch):
    """The module, executed once more where matplotlib is missing."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    spec = importlib.util.find_spec(uq.plotting.__name__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    with pytest.raises(ImportError, match=r"pip install keras_uq_layers\[plot\]"):
        again.training_curve({"loss": [1.0]})
