"""Every metric under the callbacks of Keras that watch a metric."""

import inspect

import keras
import numpy as np
import pytest

import keras_uq_layers as uq

# These have no better end: a callback needs a `mode`.
WITHOUT = {"IntervalCoverage", "MeanIntervalWidth", "PredictiveEntropy"}
CONCRETE = [
    getattr(uq.metrics, name)
    for name in uq.metrics.__all__
    # The others are functions of all rows, which `fit` does not watch.
    if name[0].isupper() and name not in ("FamilyMetric", "MeanMetric")
]


def family_for(metric):
    if metric is uq.metrics.Pinball:
        return uq.families.Quantiles([0.1, 0.9])
    of_classes = any(
        metric.__module__.endswith(room) for room in ("classification", "selective")
    )
    return "bernoulli" if of_classes else "normal"


def made(metric):
    return metric([0.1, 0.9]) if "levels" in required(metric) else metric()


def required(metric):
    parameters = inspect.signature(metric).parameters.values()
    return {p.name for p in parameters if p.default is p.empty}


def callbacks(watched, folder):
    return [
        keras.callbacks.EarlyStopping(watched, patience=3),
        keras.callbacks.ModelCheckpoint(
            folder / "best.keras", watched, save_best_only=True
        ),
        keras.callbacks.ReduceLROnPlateau(watched),
    ]


@pytest.mark.parametrize("metric", CONCRETE, ids=lambda m: m.__name__)
def test_callbacks_know_which_end_is_better(metric, tmp_path):
    family, metric = family_for(metric), made(metric)
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    model = keras.Sequential([keras.Input((2,)), uq.DistributionHead(1, family)])
    loss = (
        uq.losses.Pinball([0.1, 0.9])
        if isinstance(family, uq.families.Quantiles)
        else uq.losses.NegativeLogLikelihood()
    )
    model.compile("sgd", loss, metrics=[metric])
    watched = callbacks(f"val_{metric.name}", tmp_path)
    fit = {"validation_data": (x, y), "epochs": 2, "verbose": 0}
    if type(metric).__name__ in WITHOUT:
        with pytest.raises(ValueError, match="Pass `mode='max'`"):
            model.fit(x, y, callbacks=watched, **fit)
        return
    history = model.fit(x, y, callbacks=watched, **fit).history
    better = max if metric.direction == "up" else min
    assert watched[1].best == better(history[f"val_{metric.name}"])
    assert (tmp_path / "best.keras").exists()
