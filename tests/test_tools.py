"""The tools that people use around Keras, with this package's parts in them."""

import functools
import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from backend import to_numpy

import keras_uq_layers as uq

ROWS = 64
BACKEND = keras.backend.backend()


def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 2, (ROWS, 1)).astype("float32")
    y = x**3 + 0.1 * (2 + x) * rng.normal(size=x.shape).astype("float32")
    return x, y


def regression(units=8, kl_weight=1 / ROWS, family="normal"):
    model = keras.Sequential(
        [
            keras.Input((1,)),
            uq.DenseVariational(units, "relu", kl_weight=kl_weight),
            uq.DistributionHead(1, family),
        ]
    )
    metrics = [uq.metrics.NegativeLogLikelihood(family), uq.metrics.CRPS(family)]
    loss = uq.losses.NegativeLogLikelihood(family)
    adam = keras.optimizers.Adam(1e-2)
    model.compile(adam, loss, metrics=metrics, jit_compile=False)
    return model


# Callbacks


def test_checkpoints_and_early_stopping_watch_our_metrics(tmp_path):
    x, y = data()
    model = regression()
    path = tmp_path / "best.keras"
    saves = keras.callbacks.ModelCheckpoint(
        path, monitor="val_nll", mode="min", save_best_only=True
    )
    # No epoch improves by so much: the second is the last.
    stops = keras.callbacks.EarlyStopping("val_crps", mode="min", min_delta=10.0)
    history = model.fit(
        x, y, epochs=5, validation_data=(x, y), callbacks=[saves, stops], verbose=0
    ).history
    assert len(history["val_crps"]) == 2
    assert saves.best == min(history["val_nll"])
    best = keras.saving.load_model(path)
    assert np.isfinite(best.evaluate(x, y, verbose=0, return_dict=True)["nll"])


@pytest.mark.skipif(
    BACKEND == "torch", reason="the callback of Keras asks for torch's own writer"
)
def test_tensorboard_holds_our_metrics_and_weights(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing import event_accumulator

    x, y = data()
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)
    regression().fit(x, y, epochs=2, callbacks=[board], verbose=0)
    events = event_accumulator.EventAccumulator(str(tmp_path / "train"))
    tags = events.Reload().Tags()["tensors"]
    assert {"epoch_nll", "epoch_crps"} <= set(tags)
    assert any("posterior_raw_scale" in tag for tag in tags)
    assert len(events.Tensors("epoch_nll")) == 2


# Searches and cross-validation


# KerasTuner loads weights into an optimizer that has not run yet.
@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")
def test_a_search_over_family_and_kl_weight(tmp_path):
    tuner = pytest.importorskip("keras_tuner", reason="keras-tuner is not installed")

    def build(trial):
        return regression(
            kl_weight=trial.Float("kl_weight", 1e-3, 1.0, sampling="log"),
            family=trial.Choice("family", ["normal", "laplace"]),
        )

    x, y = data()
    search = tuner.RandomSearch(
        build,
        objective=tuner.Objective("val_nll", "min"),
        max_trials=3,
        seed=0,
        directory=tmp_path,
        project_name="search",
    )
    search.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
    trials = search.oracle.get_best_trials(3)
    scores = [trial.score for trial in trials]
    assert scores == sorted(scores)
    assert len({trial.hyperparameters.get("kl_weight") for trial in trials}) == 3
    best = search.get_best_models(1)[0]
    found = float(to_numpy(best.layers[0].kl_weight))
    assert found == pytest.approx(search.get_best_hyperparameters()[0]["kl_weight"])


def negative_nll(estimator, x, y):
    """A score of scikit-learn's: the wrapper's own would read params as y."""
    model = estimator.model_
    return -model.evaluate(x, y, verbose=0, return_dict=True)["nll"]


def test_cross_validation_in_scikit_learn():
    selection = pytest.importorskip(
        "sklearn.model_selection", reason="scikit-learn is not installed"
    )
    x, y = data()
    estimator = keras.wrappers.SKLearnRegressor(
        regression(), fit_kwargs={"epochs": 2, "verbose": 0}
    )
    scores = selection.cross_val_score(
        estimator, x, y[:, 0], cv=3, scoring=negative_nll
    )
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 3


# Threads and processes


def predict_mean(model, x):
    return uq.predict(model, x, verbose=0).mean


def call(model, x):
    return to_numpy(model(x))


def keras_predict(model, x):
    return model.predict(x, verbose=0)


@pytest.mark.parametrize("predict", [call, keras_predict, predict_mean])
def test_threads_share_a_model(predict):
    if BACKEND == "jax" and predict is not call:
        pytest.skip("Keras cannot, see upstream/test_keras_jax_threads.py")
    x, _ = data()
    model = regression()
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: predict(model, x), range(8)))
    assert all(np.isfinite(result).all() for result in results)
    # Threads that read the noise stream at once may draw the same.
    assert len({result.tobytes() for result in results}) > 1
    fixed = uq.to_deterministic(model)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: predict(fixed, x), range(8)))
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.skipif(BACKEND == "jax", reason="see upstream/test_keras_jax_threads.py")
def test_threads_share_a_plan_and_keep_their_seeds(monkeypatch):
    x, _ = data()
    model = regression()
    expected = [
        uq.predict(model, x, samples=2, seed=seed, verbose=0).samples
        for seed in range(8)
    ]
    plans, made = [], []
    module = sys.modules["keras_uq_layers.prediction.predict"]
    for name, calls in {"make_plan": plans, "Sampler": made}.items():
        monkeypatch.setattr(module, name, counted(getattr(module, name), calls))
    together = threading.Barrier(8)

    def predict_with(seed):
        together.wait()
        return uq.predict(model, x, samples=2, seed=seed, verbose=0).samples

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(predict_with, range(8)))
    np.testing.assert_array_equal(found, expected)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(predict_with, range(8)))
    # The plan of the first call serves all, and at most eight samplers are alive.
    assert len(plans) == 0
    assert len(made) <= 7


def counted(function, calls):
    def call(*args):
        calls.append(args)
        return function(*args)

    return call


def load_and_predict(pickled, x):
    # Importing this module has imported the package, which the worker needs.
    model = pickle.loads(pickled)
    return to_numpy(model(x)), to_numpy(model(x))


def test_a_pickled_model_goes_on_in_a_worker_process():
    x, _ = data()
    model = regression()
    pickled = pickle.dumps(model)
    expected = [to_numpy(model(x)) for _ in range(2)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as workers:
        found = workers.submit(functools.partial(load_and_predict, pickled, x))
        # The noise stream goes on where it was, not at its beginning.
        for a, b in zip(found.result(timeout=300), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
