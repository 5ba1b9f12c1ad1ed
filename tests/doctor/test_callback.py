"""The callback that stops at the first loss that is not finite."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_uq_layers as uq

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X[:, 0]


def compiled(*parts, **options):
    model = keras.Sequential([keras.Input((3,)), *parts])
    options = {"optimizer": "adam", "loss": "mse", "jit_compile": False, **options}
    model.compile(**options)
    return model


def test_it_stops_at_the_batch_that_did_it(capsys):
    x = X.copy()
    x[25] = np.nan
    # Not "relu": fused with the product, on some CPUs it makes 0 of NaN.
    model = compiled(layers.Dense(4, "tanh"), layers.Dense(1))
    doctor, seen = uq.callbacks.Doctor(), []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    options = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
    model.fit(x, Y, callbacks=[doctor, count], **options)
    assert seen == [0, 1, 2, 3]
    assert [f.code for f in doctor.diagnosis.problems] == ["data-not-finite"]
    np.testing.assert_array_equal(ops.convert_to_numpy(doctor.batch[0]), x[24:32])
    assert "data-not-finite" in capsys.readouterr().out
    for variable in [*model.variables, *model.optimizer.variables]:
        assert np.isfinite(ops.convert_to_numpy(variable)).all()
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 3


class Root(layers.Layer):
    """An infinite gradient for an input of 0: the loss is NaN a step later."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return ops.sqrt(ops.abs(self.w * x))


def test_a_gradient_that_breaks_the_weights_is_found_in_its_own_batch():
    x = X.copy()
    x[9] = 0.0
    model = compiled(Root(name="root"), layers.Dense(1))
    doctor = uq.callbacks.Doctor(verbose=False)
    model.fit(x, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[doctor])
    (problem,) = doctor.diagnosis.problems
    assert problem.code == "gradient-not-finite"
    assert problem.path.endswith("root")
    np.testing.assert_array_equal(ops.convert_to_numpy(doctor.batch[0]), x[8:16])


@pytest.mark.parametrize("weights", [None, np.ones(40, "float32")])
def test_it_changes_nothing_where_all_is_well(weights):
    results = []
    for callbacks in ([], [uq.callbacks.Doctor()]):
        keras.utils.set_random_seed(0)
        model = compiled(layers.Dense(4, "relu"), layers.Dropout(0.2), layers.Dense(1))
        function = model.train_function
        options = {"batch_size": 16, "epochs": 2, "verbose": 0}
        model.fit(X, Y, sample_weight=weights, callbacks=callbacks, **options)
        results.append(model.get_weights())
        assert function is None
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert callbacks[0].diagnosis is None


def test_a_step_that_fails_leaves_the_model_as_it_was():
    model, doctor = compiled(layers.Dense(1)), uq.callbacks.Doctor()
    with pytest.raises(ValueError, match="shape"):
        model.fit(X[:, :2], Y, verbose=0, callbacks=[doctor])
    assert getattr(model.train_function, "__self__", None) is not doctor


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras itself refuses them there"
)
def test_several_steps_in_one_execution_are_refused():
    model = compiled(layers.Dense(1), steps_per_execution=2)
    with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
        model.fit(X, Y, verbose=0, callbacks=[uq.callbacks.Doctor()])
