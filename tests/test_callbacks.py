import inspect

import keras
import numpy as np
import pytest
from backend import needs_xla
from backend import to_numpy
from keras import ops
from layer_cases import CASES

import keras_uq_layers as uq

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


class Losses(keras.callbacks.Callback):
    """What the logs say at the end of each epoch, and the KL without weight."""

    def __init__(self):
        super().__init__()
        self.logs, self.kls = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))
        self.kls.append(float(self.model.layers[0].kl()))


def make_model(kl_weight=0.02, weights=(1.0, 1.0)):
    return keras.Sequential(
        [
            uq.DenseVariational(4, kl_weight=kl_weight * weights[0], name="one"),
            uq.DenseVariational(2, kl_weight=kl_weight * weights[1], name="two"),
        ]
    )


def test_factor():
    warmup = uq.callbacks.KLWarmup(4, start=0.2)
    np.testing.assert_allclose(
        [warmup.factor(epoch) for epoch in range(6)], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    )


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=needs_xla)])
def test_logs_and_loss_have_the_weight_in_force(jit_compile):
    """Learning rate 0 and targets of 0 variance: the loss is known."""
    model = keras.Sequential([uq.DenseVariational(2, kl_weight=0.02)])
    traces = []

    def no_loss(y_true, y_pred):
        traces.append(1)
        return ops.mean(0.0 * y_pred, axis=-1)

    model.compile(keras.optimizers.SGD(0.0), no_loss, jit_compile=jit_compile)
    seen = Losses()
    # In front, so that its logs reach the callbacks behind it.
    warmup = uq.callbacks.KLWarmup(2)
    history = model.fit(
        X, X[:, :2], epochs=4, verbose=0, batch_size=8, callbacks=[warmup, seen]
    )
    np.testing.assert_allclose(history.history["kl_weight"], [0.0, 0.01, 0.02, 0.02])
    np.testing.assert_allclose(
        history.history["loss"],
        np.array(seen.kls) * history.history["kl_weight"],
        rtol=1e-5,
    )
    count = len(traces)
    model.fit(X, X[:, :2], epochs=2, verbose=0, batch_size=8, callbacks=[warmup])
    if jit_compile or keras.backend.backend() == "tensorflow":  # others trace nothing
        assert len(traces) == count  # the weight is no reason to trace again


def test_layers_with_different_weights():
    model = make_model(weights=(1.0, 2.0))
    model.compile("sgd", "mse", jit_compile=False)
    history = model.fit(
        X, X[:, :2], epochs=2, verbose=0, callbacks=[uq.callbacks.KLWarmup(2)]
    )
    np.testing.assert_allclose(history.history["kl_weight/two"], [0.0, 0.02])
    np.testing.assert_allclose(history.history["kl_weight/one"], [0.0, 0.01])


def test_resumes(tmp_path):
    """A model saved within the warm-up goes on to the full weight."""
    model = make_model()
    model.compile("sgd", "mse", jit_compile=False)
    callback = uq.callbacks.KLWarmup(4)
    model.fit(X, X[:, :2], epochs=2, verbose=0, callbacks=[callback])
    model.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert to_numpy(loaded.layers[0].kl_weight) == pytest.approx(0.005)
    history = loaded.fit(
        X,
        X[:, :2],
        initial_epoch=2,
        epochs=6,
        verbose=0,
        callbacks=[uq.callbacks.KLWarmup(4)],
    )
    np.testing.assert_allclose(
        history.history["kl_weight"], [0.01, 0.015, 0.02, 0.02], rtol=1e-6
    )


def test_a_wrapped_layer_and_a_latent_code_too():
    inner = keras.layers.TimeDistributed(uq.DenseVariational(4, kl_weight=0.1))
    model = keras.Sequential([inner, uq.NormalSampling()])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.repeat(X[:, None], 2, axis=1)
    history = model.fit(
        x, x[..., :2], epochs=1, verbose=0, callbacks=[uq.callbacks.KLWarmup(4, 0.5)]
    )
    named = {k: v[0] for k, v in history.history.items() if k != "loss"}
    assert sorted(named.values()) == pytest.approx([0.05, 0.5])


def kl_cases():
    """The cases of all layers with a KL, found by their argument."""
    return [
        case
        for case in CASES
        if "kl_weight" in inspect.signature(getattr(uq, case.layer)).parameters
    ]


def test_the_kl_weight_exists_before_the_layer_is_built():
    cases = kl_cases()
    assert {"ConcreteDropout", "NormalSampling", "Variational"} < {
        case.layer for case in cases
    }
    for case in cases:
        model = keras.Sequential([case.make()])
        warmup = uq.callbacks.KLWarmup(4, start=0.5)
        warmup.set_model(model)
        warmup.on_epoch_begin(0)
        assert not model.built
        expected = 0.5 * case.config.get("kl_weight", 1.0)
        found = to_numpy(model.layers[0].kl_weight)
        assert found == pytest.approx(expected), case.id


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("float64", "float64"), ("mixed_float16", "float32"), ("bfloat16", "float32")],
)
def test_the_kl_weight_is_at_least_float32(policy, dtype):
    found = {case.make(dtype=policy).kl_weight.dtype for case in kl_cases()}
    assert found == {dtype}


class Mine(keras.layers.Layer):
    """A user's layer with a KL: a variable and nothing else."""

    def __init__(self):
        super().__init__()
        self.kl_weight = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(0.2), trainable=False
        )


def test_a_layer_of_the_user_reaches_its_full_weight():
    warmup = uq.callbacks.KLWarmup(2)
    warmup.set_model(keras.Sequential([Mine()]))
    seen = []
    for epoch in range(4):
        warmup.on_epoch_begin(epoch)
        seen.append(float(to_numpy(warmup.model.layers[0].kl_weight)))
    np.testing.assert_allclose(seen, [0.0, 0.1, 0.2, 0.2], rtol=1e-6)


def test_an_unbuilt_model_with_concrete_dropout_alone():
    model = keras.Sequential(
        [uq.ConcreteDropout(keras.layers.Dense(2), kl_weight=0.02)]
    )
    model.compile("sgd", "mse", jit_compile=False)
    callbacks = [uq.callbacks.KLWarmup(2)]
    history = model.fit(X, X[:, :2], epochs=2, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(history.history["kl_weight"], [0.0, 0.01])


def test_errors():
    with pytest.raises(ValueError, match="`epochs` must be a positive integer"):
        uq.callbacks.KLWarmup(0)
    with pytest.raises(ValueError, match="`start` must be a number between 0 and 1"):
        uq.callbacks.KLWarmup(2, start=1.5)
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match="must have a layer with a `kl_weight`"):
        model.fit(X, X[:, :2], verbose=0, callbacks=[uq.callbacks.KLWarmup(2)])
