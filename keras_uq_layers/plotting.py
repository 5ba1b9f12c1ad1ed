"""Figures: what was predicted, and whether it can be believed.

Every function draws into `ax` (None: the current axes) and returns it. They
need matplotlib (`pip install keras_uq_layers[plot]`), which is imported by the
first call, not by `import keras_uq_layers`.
"""

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers.families._classes import ClassFamily

__all__ = [
    "coverage_width",
    "pit_histogram",
    "prediction_band",
    "reliability_diagram",
    "training_curve",
]

_COLOR, _SECOND, _GREY = "C0", "C1", "0.5"


def prediction_band(prediction, x, y=None, level=0.95, output=0, ax=None):
    """The prediction over one input: mean, aleatoric and epistemic parts.

    The outer, light band is the central interval of the mixture; the inner,
    dark band is the mean plus and minus the epistemic standard deviation, scaled
    like a normal interval of the same level: what more data would remove.

    Args:
        prediction: A `uq.Prediction` of N examples, with its samples.
        x: Array `(N,)` or `(N, 1)`, the input, in any order.
        y: Observations `(N,)` or `(N, D)` to show as points, or None.
        level: Probability of the interval, inside (0, 1).
        output: Which of the D outputs.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, or an output that is not there.

    Example:

    >>> params = np.stack([np.linspace(0, 1, 5), np.full(5, 0.1)], axis=-1)
    >>> prediction = uq.Prediction(params[None])
    >>> ax = uq.plotting.prediction_band(prediction, np.arange(5))
    >>> ax.get_legend() is not None
    True
    """
    mean = _column(prediction.mean, "prediction", output)
    x = _column(x, "x", 0)
    if len(x) != len(mean):
        raise ValueError(
            f"`x` must have one value per example, shape ({len(mean)},). "
            f"Received: x of shape {np.shape(x)}"
        )
    order = np.argsort(x)
    lower, upper = (
        _column(end, "prediction", output)[order] for end in prediction.interval(level)
    )
    factor = -float(families.Normal().quantile(0.5 - 0.5 * level, _STANDARD)[0, 0])
    spread = factor * _column(prediction.epistemic_std, "prediction", output)[order]
    ax = _axes(ax)
    mean, sorted_x = mean[order], x[order]
    ax.fill_between(
        sorted_x, lower, upper, color=_COLOR, alpha=0.2, lw=0, label=f"{level:.0%}"
    )
    if spread.any():  # one pass has none, and no entry in the legend
        ax.fill_between(
            sorted_x,
            mean - spread,
            mean + spread,
            color=_COLOR,
            alpha=0.4,
            lw=0,
            label="epistemic",
        )
    ax.plot(sorted_x, mean, color=_COLOR, label="mean")
    if y is not None:
        y = _column(y, "y", output)
        ax.plot(x, y, ".", color=_GREY, ms=3, zorder=0, label="observed")
    ax.legend()
    return ax


def reliability_diagram(prediction, y, bins=10, ax=None):
    """How often the model is right, against how sure it is.

    For classes: the share of right predictions in bins of the confidence in
    the most likely class. For a regression: the share of targets below the
    predicted quantile, against its probability. Calibrated is the diagonal;
    for classes, below it the model is too sure of itself.

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

    >>> prediction = uq.ClassPrediction(np.array([[[0.0, 2.0], [2.0, 0.0]]]))
    >>> ax = uq.plotting.reliability_diagram(prediction, np.array([1, 1]))
    >>> ax.get_xlabel()
    'confidence'
    """
    bins = arguments.positive_int("bins", bins)
    classes = isinstance(prediction.family, ClassFamily)
    if classes:
        confidence, right = _top_label(prediction, y)
        cell = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        count = np.bincount(cell, minlength=bins)
        used = count > 0
        expected = np.bincount(cell, confidence, bins)[used] / count[used]
        observed = np.bincount(cell, right, bins)[used] / count[used]
        names = "confidence", "share of right predictions"
    else:
        pit = prediction.cdf(y).ravel()
        expected = np.arange(1, bins + 1) / (bins + 1)
        observed = (pit[:, None] <= expected).mean(axis=0)
        names = "predicted probability", "share of targets below"
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], "--", color=_GREY, lw=1, label="calibrated")
    ax.plot(expected, observed, "o-", color=_COLOR, label="model")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.legend()
    return ax


def pit_histogram(prediction, y, bins=20, ax=None):
    """Histogram of the probability integral transform, `F(y)`.

    Flat for a calibrated model of a continuous quantity; a U where the model is
    too sure of itself, a hill where it is too cautious, a slope where it is
    biased. The grey band holds 95 % of the bars of a calibrated model.

    Args:
        prediction: A `uq.Prediction`, with its samples.
        y: Targets `(N, ..., D)`, or `(N, ...)` where `D` is 1.
        bins: Number of bars, a positive integer.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, or `bins` below 1.

    Example:

    >>> prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 50, 1)))
    >>> y = np.random.default_rng(0).normal(size=50)
    >>> uq.plotting.pit_histogram(prediction, y, bins=5).get_ylabel()
    'density'
    """
    bins = arguments.positive_int("bins", bins)
    pit = prediction.cdf(y).ravel()
    ax = _axes(ax)
    spread = 1.96 * np.sqrt((bins - 1) / len(pit))
    ax.hist(pit, bins=bins, range=(0, 1), density=True, color=_COLOR, ec="white")
    ax.axhspan(max(0.0, 1 - spread), 1 + spread, color=_GREY, alpha=0.3, lw=0)
    ax.axhline(1.0, ls="--", color=_GREY, lw=1)
    ax.set(xlim=(0, 1), xlabel="probability integral transform", ylabel="density")
    return ax


def coverage_width(predictions, y, levels=None, ax=None):
    """Coverage against mean width of the central intervals, model by model.

    One curve per model, one point per level; crosses mark where the coverage
    should be. The better of two calibrated models is the one to the left.

    Args:
        predictions: A `uq.Prediction`, or a dict from label to `uq.Prediction`.
        y: Targets `(N, ..., D)`, or `(N, ...)` where `D` is 1.
        levels: Sequence of probabilities inside (0, 1), or None: 0.1 ... 0.9.
        ax: Matplotlib Axes, or None.

    Returns:
        The Axes.

    Raises:
        ValueError: Shapes that do not agree, or a level outside (0, 1).

    Example:

    >>> prediction = uq.Prediction(np.tile([0.0, 1.0], (1, 50, 1)))
    >>> y = np.random.default_rng(0).normal(size=50)
    >>> ax = uq.plotting.coverage_width({"model": prediction}, y, levels=[0.5])
    >>> ax.get_ylabel()
    'coverage'
    """
    levels = np.arange(1, 10) / 10 if levels is None else np.asarray(levels)
    if not isinstance(predictions, dict):
        predictions = {"model": predictions}
    ax = _axes(ax)
    for i, (label, prediction) in enumerate(predictions.items()):
        target = prediction._aligned(y)
        widths, coverages = [], []
        for level in levels.tolist():
            lower, upper = prediction.interval(level)
            widths.append((upper - lower).mean())
            coverages.append(((lower <= target) & (target <= upper)).mean())
        ax.plot(widths, coverages, "o-", color=f"C{i}", label=label)
        ax.plot(widths, levels, "x", color=f"C{i}", alpha=0.5)
    ax.set(xlabel="mean width (unit of y)", ylabel="coverage", ylim=(0, 1))
    ax.legend()
    return ax


def training_curve(history, reference=None, names=None, ax=None):
    """The loss over the epochs, with the value that a model must beat.

    Args:
        history: What `fit` returns, or its `history` dict.
        reference: The reference, for a negative log likelihood
            `uq.losses.constant_normal_nll(y)`, or None.
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
        ax.plot(epochs, history[name], color=f"C{i}", label=name)
    if reference is not None:
        ax.axhline(
            float(reference), ls="--", color=_GREY, label="best constant prediction"
        )
    # A negative log likelihood may be negative: no logarithmic axis.
    ax.locator_params("x", integer=True)  # no epoch 2.5
    ax.set(xlabel="epoch", ylabel="nats" if reference is not None else "loss")
    ax.legend()
    return ax


_STANDARD = np.array([[0.0, 1.0]])


def _axes(ax):
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "`plotting` needs matplotlib: pip install keras_uq_layers[plot]"
        ) from error
    return plt.gca()


def _column(values, name, output):
    """One column of `(N,)` or `(N, D)`."""
    values = np.asarray(ops.convert_to_numpy(values), dtype="float64")
    columns = values.reshape(len(values), -1) if values.ndim else values
    if values.ndim not in (1, 2) or not 0 <= output < columns.shape[1]:
        raise ValueError(
            f"`{name}` must have shape (N,) or (N, D) with an output {output}. "
            f"Received: {name} of shape {values.shape}"
        )
    return columns[:, output]


def _top_label(prediction, y):
    """Confidence in the most likely class of the mixture, and if it was right."""
    p, y = prediction.mean, prediction._aligned(y)
    if isinstance(prediction.family, families.Categorical):
        top = p.argmax(axis=-1)[..., None]
        confidence = np.take_along_axis(p, top, axis=-1)
        right = np.take_along_axis(y, top, axis=-1)
    else:
        confidence, right = np.maximum(p, 1.0 - p), np.where(p > 0.5, y, 1.0 - y)
    return confidence.ravel(), right.ravel()
