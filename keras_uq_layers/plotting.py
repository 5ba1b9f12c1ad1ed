"""Figures of what a model predicts, and of how far it can be trusted.

Every function draws into `ax` (None: the current axes) and returns it. The
functions need matplotlib (`pip install keras_uq_layers[plot]`). The first call
imports it; `import keras_uq_layers` does not.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING
from typing import Any
from typing import ParamSpec
from typing import TypeVar

import numpy as np
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics import risk_coverage as _curves
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction import Prediction
from keras_uq_layers.prediction.uncertainty import loss_of
from keras_uq_layers.prediction.uncertainty import uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "coverage_width",
    "pit_histogram",
    "prediction_band",
    "reliability_diagram",
    "risk_coverage",
    "style",
    "training_curve",
]

# The colours of Okabe and Ito, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, SKY, GREY = "#CC79A7", "#56B4E9", "#808080"
_CYCLE = [BLUE, ORANGE, GREEN, PINK, SKY]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of this package's figures, for figures of your own.

    Inside the `with` block, matplotlib draws with colours that the
    colour-blind can tell apart, in the order `plotting.BLUE`, `ORANGE`,
    `GREEN`, `PINK`, `SKY`, without the top and right frame lines and without
    a box around the legend. After the block the settings are as before.

    Returns:
        A context manager, which also works as a decorator of a function.

    Raises:
        ImportError: matplotlib is not installed.

    Example:

    >>> import matplotlib.pyplot as plt
    >>> with uq.plotting.style():
    ...     figure, ax = plt.subplots()
    ...     line = ax.plot([0, 1], [0, 1])[0]
    >>> line.get_color() == uq.plotting.BLUE
    True

    References:
        Okabe & Ito, 2008, "Color Universal Design",
        https://jfly.uni-koeln.de/color/.
    """
    settings = {
        "axes.prop_cycle": f"cycler(color={_CYCLE})",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with _pyplot().rc_context(settings):
        yield


def _in_style(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    @functools.wraps(function)
    def draw(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with style():
            return function(*args, **kwargs)

    return draw


@_in_style
def prediction_band(
    prediction: Prediction,
    x: Tensor,
    y: Tensor | None = None,
    level: Floats = 0.95,
    output: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draws the prediction over one input: its mean and its intervals.

    The light band is the central interval of the mixture. Where the passes of
    the model differ, a dark band shows the epistemic part, which more data
    would remove: the mean plus and minus the epistemic standard deviation,
    scaled like a normal interval of the widest level. A family without a mean
    (`Quantiles`, a Student-t with heavy tails) is drawn by its median alone. The
    bands of a plain prediction (`Point`) hold a share of the passes of the
    model, not of the observations, and the legend says so.

    Args:
        prediction: A `uq.Prediction` of N examples, with its samples.
        x: Array `(N,)` or `(N, 1)`, the input, in any order.
        y: Observations `(N,)` or `(N, D)` to show as points, or None.
        level: Probability of the interval, inside (0, 1), or a sequence of
            probabilities: one band for each.
        output: Which of the D outputs.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, an output that is not there, a
            level outside (0, 1), or a prediction of classes.

    Example:

    >>> params = np.stack([np.linspace(0, 1, 5), np.full(5, 0.1)], axis=-1)
    >>> prediction = uq.Prediction(params[None], "normal")
    >>> ax = uq.plotting.prediction_band(prediction, np.arange(5), level=[0.5, 0.9])
    >>> ax.get_legend() is not None
    True
    """
    _refuse_classes(prediction, "`reliability_diagram`, or plot `prediction.mean`")
    levels = sorted(np.ravel(level).tolist(), reverse=True)
    of_points = isinstance(prediction.family, families.Point)
    intervals = [prediction.interval(one) for one in levels]
    center, name = _center(prediction)
    center = _column(center, "prediction", output)
    sorted_x = _column(x, "x", 0)
    if len(sorted_x) != len(center):
        raise ValueError(
            f"`x` must have one value per example, shape ({len(center)},). "
            f"Received: x of shape {np.shape(x)}"
        )
    order = np.argsort(sorted_x)
    sorted_x, center = sorted_x[order], center[order]
    ax = _axes(ax)

    def band(lower: Array, upper: Array, **options: Any) -> None:
        ax.fill_between(sorted_x, lower, upper, color=BLUE, lw=0, **options)

    for i, (one, ends) in enumerate(zip(levels, intervals, strict=True)):
        lower, upper = (_column(end, "prediction", output)[order] for end in ends)
        # The legend shows which is which only where the inner one is darker.
        alpha = 0.2 + 0.2 * i / len(levels)
        held = "of the passes" if of_points else "interval"
        band(lower, upper, alpha=alpha, label=f"{100 * one:g} % {held}")
    if name == "mean" and not of_points:
        spread = _column(prediction.epistemic_std, "prediction", output)[order]
        half = NormalDist().inv_cdf(0.5 + 0.5 * levels[0]) * spread
        if half.any():  # with one pass there is no band to explain in the legend
            band(center - half, center + half, alpha=0.4, label="epistemic")
    ax.plot(sorted_x, center, color=BLUE, label=name)
    if y is not None:
        points = _column(y, "y", output)[order]
        ax.plot(sorted_x, points, ".", color=GREY, ms=3, zorder=0, label="observed")
    ax.legend()
    return ax


@_in_style
def reliability_diagram(
    prediction: Prediction, y: Tensor, bins: int = 10, ax: Axes | None = None
) -> Axes:
    """Draws how often the model is right, against how sure it is.

    For classes: the share of right predictions, in bins of the confidence in
    the most likely class. For a regression: the share of targets below a
    predicted quantile, against the probability of that quantile. A calibrated
    model follows the diagonal. For classes, a curve below the diagonal shows
    a model that is too sure of itself.

    Args:
        prediction: A `uq.Prediction` or `uq.ClassPrediction`, with its samples.
        y: Targets, as for `prediction.log_prob`.
        bins: Number of bins, or of probabilities; a positive integer.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, or `bins` below 1.

    Example:

    >>> logits = np.array([[[0.0, 2.0], [2.0, 0.0]]])
    >>> prediction = uq.ClassPrediction(logits, "categorical")
    >>> ax = uq.plotting.reliability_diagram(prediction, np.array([1, 1]))
    >>> ax.get_xlabel()
    'confidence'
    """
    bins = arguments.positive_int("bins", bins)
    if isinstance(prediction.family, ClassFamily):
        confidence, right = _top_label(prediction, y)
        cell = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        count = np.bincount(cell, minlength=bins)
        used = count > 0
        expected = np.bincount(cell, confidence, bins)[used] / count[used]
        observed = np.bincount(cell, right, bins)[used] / count[used]
        names = "confidence", "share of right predictions"
    else:
        expected = np.arange(1, bins + 1) / (bins + 1)
        observed = _pit_distribution(prediction, y, expected)
        names = "predicted probability", "share of targets below"
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], "--", color=GREY, lw=1, label="calibrated")
    ax.plot(expected, observed, "o-", color=BLUE, label="model")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.legend()
    return ax


@_in_style
def pit_histogram(
    prediction: Prediction, y: Tensor, bins: int = 20, ax: Axes | None = None
) -> Axes:
    """Draws a histogram of the probability integral transform (PIT), `F(y)`.

    The histogram is flat for a calibrated model, a U for a model that is too
    sure of itself, a hill for one that is too cautious, and a slope for a
    biased one. The grey band holds 95 % of the bars of a calibrated model.

    Where the predicted distribution has a jump at `y` (counts, a censored
    quantity at its bound), the target counts in equal parts for all
    probabilities that the jump covers, so that a calibrated model is flat
    there, too.

    Args:
        prediction: A `uq.Prediction`, with its samples.
        y: Targets `(N, ..., D)`, or `(N, ...)` where `D` is 1.
        bins: Number of bars, a positive integer.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, `bins` below 1, or a prediction
            of classes.

    Example:

    >>> params = np.tile([0.0, 1.0], (1, 50, 1))
    >>> y = np.random.default_rng(0).normal(size=50)
    >>> prediction = uq.Prediction(params, "normal")
    >>> uq.plotting.pit_histogram(prediction, y, bins=5).get_ylabel()
    'density'

    References:
        Czado, Gneiting & Held, 2009, "Predictive Model Assessment for Count
        Data", Biometrics 65(4), doi:10.1111/j.1541-0420.2009.01191.x.
    """
    bins = arguments.positive_int("bins", bins)
    _refuse_classes(prediction, "`reliability_diagram`")
    edges = np.linspace(0, 1, bins + 1)
    below = _pit_distribution(prediction, y, edges[1:])
    heights = np.diff(below, prepend=0.0) * bins
    ax = _axes(ax)
    spread = 1.96 * np.sqrt((bins - 1) / np.size(ops.convert_to_numpy(y)))
    ax.bar(edges[:-1], heights, 1 / bins, align="edge", color=BLUE, ec="white")
    ax.axhspan(max(0.0, 1 - spread), 1 + spread, color=GREY, alpha=0.3, lw=0)
    ax.axhline(1.0, ls="--", color=GREY, lw=1)
    ax.set(xlim=(0, 1), xlabel="probability integral transform", ylabel="density")
    return ax


@_in_style
def coverage_width(
    predictions: Prediction | Mapping[str, Prediction],
    y: Tensor,
    levels: Sequence[float] | Array | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws coverage against mean width of the central intervals, by model.

    Each model is one curve, each level one point. Crosses mark where the
    coverage should be. The better of two calibrated models is the one to the
    left: its intervals are narrower at the same coverage.

    Args:
        predictions: A `uq.Prediction`, or a dict from label to `uq.Prediction`.
        y: Targets `(N, ..., D)`, or `(N, ...)` where `D` is 1.
        levels: Sequence of probabilities inside (0, 1), or None: 0.1 ... 0.9.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, a level outside (0, 1), or a
            prediction of classes.

    Example:

    >>> prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 50, 1)), "normal")
    >>> y = np.random.default_rng(0).normal(size=50)
    >>> ax = uq.plotting.coverage_width({"model": prediction}, y, levels=[0.5])
    >>> ax.get_ylabel()
    'coverage'
    """
    levels = np.arange(1, 10) / 10 if levels is None else np.asarray(levels)
    if not isinstance(predictions, Mapping):
        predictions = {"model": predictions}
    for prediction in predictions.values():
        _refuse_classes(prediction, "`reliability_diagram`")
    ax = _axes(ax)
    for i, (label, prediction) in enumerate(predictions.items()):
        target = prediction._aligned(y)
        widths, coverages = [], []
        for level in levels.tolist():
            lower, upper = prediction.interval(level)
            widths.append((upper - lower).mean())
            coverages.append(((lower <= target) & (target <= upper)).mean())
        color = _CYCLE[i % len(_CYCLE)]
        ax.plot(widths, coverages, "o-", color=color, label=label)
        ax.plot(widths, levels, "x", color=color, alpha=0.5)
    ax.set(xlabel="mean width (unit of y)", ylabel="coverage", ylim=(0, 1))
    ax.legend()
    return ax


@_in_style
def risk_coverage(
    predictions: Moments | Array | Mapping[str, Moments | Array],
    y: Tensor,
    score: str | Callable[[Any], Any] = "error_probability",
    loss: str | Callable[[Any, Any], Any] = "error",
    ax: Axes | None = None,
) -> Axes:
    """Draws the error rate of the surest predictions, against their share.

    Each model is one curve. To the left it answers only where it is very sure, to
    the right always. The lower of two curves is the better one. A curve that does
    not rise belongs to a score that does not know where the model is wrong. The
    legend has the area under the curve (AURC, `uq.metrics.AURC`).

    Args:
        predictions: What `uq.predict` returns, or an array of probabilities
            `(N, K)`; or a dict from label to such predictions.
        y: Labels `(N,)`, or what `loss` takes.
        score: How unsure a prediction is: a name or a function, as for
            `uq.calibration.SelectivePrediction`.
        loss: How wrong a prediction is, as for `SelectivePrediction`.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, or a prediction without that score.

    Example:

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> ax = uq.plotting.risk_coverage({"model": p}, np.array([0, 0, 0, 1]))
    >>> ax.lines[-1].get_label()
    'model, AURC 0.031'

    References:
        Geifman & El-Yaniv, 2017, "Selective Classification for Deep Neural
        Networks", NeurIPS, arXiv:1705.08500.
    """
    if not isinstance(predictions, Mapping):
        predictions = {"model": predictions}
    ax = _axes(ax)
    for i, (label, prediction) in enumerate(predictions.items()):
        # A threshold accepts all examples of one score, or none.
        _, cell = np.unique(uncertainty(prediction, score), return_inverse=True)
        losses = to_numpy(loss_of(prediction, y, loss))
        sums = np.bincount(cell), np.bincount(cell, losses)
        curve = _curves.risk_coverage(
            *(ops.convert_to_tensor(s, "float32") for s in sums)
        )
        area = float(_curves.area_under_risk(*curve))
        coverage, risk = (to_numpy(values) for values in curve)
        ax.plot(
            # Constant below the first point, as in the area.
            np.append(0.0, coverage),
            np.append(risk[:1], risk),
            color=_CYCLE[i % len(_CYCLE)],
            label=f"{label}, AURC {area:.2g}",
        )
    what = "error rate" if loss == "error" else "mean loss"
    ax.set(xlabel="share of examples that are answered", ylabel=f"{what} among them")
    ax.set(xlim=(0, 1), ylim=(0, None))
    ax.legend()
    return ax


@_in_style
def training_curve(
    history: Any,
    reference: float | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the loss over the epochs, with the value that a model must beat.

    Args:
        history: The result of `fit`, or its `history` dict.
        reference: The value to beat, or None. For a negative log likelihood
            it is `uq.losses.constant_normal_nll(y)`.
        names: Which curves to show; None: `loss` and `val_loss`.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: A name that is not in the history.

    Example:

    >>> ax = uq.plotting.training_curve({"loss": [3.0, 2.0, -1.0]}, reference=1.4)
    >>> ax.get_xlabel()
    'epoch'
    """
    history = getattr(history, "history", history)
    if names is None:
        names = [name for name in ("loss", "val_loss") if name in history]
    unknown = [name for name in names if name not in history]
    if unknown or not names:
        raise ValueError(
            f"`names` must be among {sorted(history)}. Received: names={names!r}"
        )
    ax = _axes(ax)
    for i, name in enumerate(names):
        epochs = np.arange(1, len(history[name]) + 1)
        ax.plot(epochs, history[name], color=_CYCLE[i % len(_CYCLE)], label=name)
    if reference is not None:
        ax.axhline(
            float(reference), ls="--", color=GREY, label="best constant prediction"
        )
    # A negative log likelihood may be negative: no logarithmic axis.
    ax.locator_params("x", integer=True)  # no epoch 2.5
    ax.set(xlabel="epoch", ylabel="nats" if reference is not None else "loss")
    ax.legend()
    return ax


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "`plotting` needs matplotlib: pip install keras_uq_layers[plot]"
        ) from error
    return plt


def _axes(ax: Axes | None) -> Axes:
    return _pyplot().gca() if ax is None else ax


def _refuse_classes(prediction: Prediction, instead: str) -> None:
    if isinstance(prediction.family, ClassFamily):
        raise ValueError(
            f"`prediction` must be of a quantity: for classes use {instead}. "
            f"Received: a prediction of the family {prediction.family.name!r}"
        )


def _center(prediction: Prediction) -> tuple[Array, str]:
    """The mean and its name, or the median where the family has no mean."""
    try:
        mean = prediction.mean
    except NotImplementedError:
        mean = None
    if mean is None or not np.isfinite(mean).all():
        return prediction.quantile(0.5), "median"
    return mean, "mean"


def _column(values: Tensor, name: str, output: int) -> Array:
    """One column of `(N,)` or `(N, D)`."""
    array = np.asarray(ops.convert_to_numpy(values), dtype="float64")
    columns = array.reshape(len(array), -1) if array.ndim else array
    if array.ndim not in (1, 2) or not 0 <= output < columns.shape[1]:
        raise ValueError(
            f"`{name}` must have shape (N,) or (N, D) with an output {output}. "
            f"Received: {name} of shape {array.shape}"
        )
    return columns[:, output]


def _pit_distribution(prediction: Prediction, y: Tensor, p: Array) -> Array:
    """The share of the probability integral transforms (PITs) up to each `p`.

    At a jump of the predicted distribution the PIT is spread evenly over the
    jump, from the limit of `F` below `y` to `F(y)`, and so it is outside the
    outermost of predicted quantiles, where nothing else is known.
    """
    above = prediction.cdf(y).ravel()
    below = above
    family = prediction.family
    if isinstance(family, families.Quantiles):
        below = np.where(above <= family.levels[0] + 1e-6, 0.0, above)
        above = np.where(above >= family.levels[-1] - 1e-6, 1.0, above)
    elif family.discrete or family.closed:
        target = prediction._aligned(y)
        # Far enough for float32, in which some backends compute.
        gap = np.maximum(np.spacing(np.abs(target).astype("float32")), 1e-37)
        below = prediction.cdf(target - (0.5 if family.discrete else gap)).ravel()
    width = above - below
    share = (p[:, None] - below) / np.where(width > 0, width, 1.0)
    share = np.where(width > 0, np.clip(share, 0.0, 1.0), above <= p[:, None])
    return share.mean(axis=1)


def _top_label(prediction: Prediction, y: Tensor) -> tuple[Array, Array]:
    """Confidence in the most likely class of the mixture, and if it was right."""
    # The mean of a mixture holds probabilities, whatever its components hold.
    cls: Any = type(prediction.family)
    family = cls(from_logits=False)
    confidence, right = family.top_label(np.asarray(y), prediction.mean)
    return ops.convert_to_numpy(confidence).ravel(), ops.convert_to_numpy(right).ravel()


_namespace.define(__name__)
