"""What `diagnose` takes, leaves as it was, and prints."""

import keras
import numpy as np
import pytest
from broken import NLL
from broken import ON_JAX
from broken import ROWS
from broken import Noise
from broken import X
from broken import Y
from broken import found
from broken import model_of
from broken import variational
from broken import with_generator
from broken import without_a_seed
from keras import layers
from keras import ops

import keras_uq_layers as uq


def state(model):
    from keras.src.random.seed_generator import global_seed_generator

    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [
        ops.convert_to_numpy(v) for v in [*variables, global_seed_generator().state]
    ]


def test_the_model_stays_as_it_was():
    model = model_of(
        layers.Dense(8, "relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        variational(kl_weight=1.0),
        Noise(with_generator if ON_JAX else without_a_seed),
        uq.DistributionHead(1),
    )
    model.compile("adam", NLL(), metrics=[uq.metrics.CRPS()])
    model.fit(X, Y, verbose=0)
    before, compiled = state(model), model._compile_loss
    losses = [float(ops.convert_to_numpy(value)) for value in model.losses]
    names = vars(model).keys() - {"_nested"}
    assert found(model, X, Y, validation_data=(X, Y))
    for a, b in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model._compile_loss is compiled
    assert vars(model).keys() - {"_nested"} == names
    assert [float(ops.convert_to_numpy(v)) for v in model.losses] == losses
    model.fit(X, Y, verbose=0)


def test_a_model_that_is_not_built_nor_compiled():
    model = keras.Sequential(
        [layers.Dense(2), uq.MCDropout(0.5, seed=1), layers.Dense(1)]
    )
    assert not found(model, X, Y, "mse")
    again = keras.Sequential([uq.MCDropout(0.5, seed=1)])
    first = ops.convert_to_numpy(again(np.ones((1, 8))))
    other = keras.Sequential([uq.MCDropout(0.5, seed=1)])
    uq.diagnose(other, np.ones((1, 8)), np.ones((1, 8)), "mse")
    np.testing.assert_array_equal(ops.convert_to_numpy(other(np.ones((1, 8)))), first)


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        uq.diagnose(layers.Dense(1), X, Y, "mse")
    with pytest.raises(ValueError, match="`training_size` must be a positive integer"):
        uq.diagnose(model_of(layers.Dense(1)), X, Y, "mse", training_size=0)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[:8], 1e4 * Y[:8], np.ones(8, "float32")


def generator():
    yield X[:8], 1e4 * Y[:8]


def tensorflow_dataset():
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((X, 1e4 * Y)).batch(8)


@pytest.mark.parametrize("make", [Batches, generator, tensorflow_dataset])
def test_of_a_dataset_the_first_batch(make):
    model = model_of(uq.DistributionHead(1))
    diagnosis = uq.diagnose(model, make(), loss=NLL())
    assert [problem.code for problem in diagnosis.problems] == ["scale-far-too-small"]
    assert "8 rows" in diagnosis.summary
    with pytest.raises(ValueError, match="must be None where x is a dataset"):
        uq.diagnose(model, make(), Y, NLL())


def test_a_check_that_the_code_of_the_user_stops_is_named():
    def loss(y, p):
        if len(p) < ROWS:
            raise RuntimeError("only whole batches")
        return ops.mean(ops.square(y - p))

    diagnosis = uq.diagnose(model_of(layers.Dense(1)), X, Y[:, None], loss)
    (note,) = [f for f in diagnosis.findings if f.code == "check-skipped"]
    assert diagnosis.ok
    assert note.path == "shapes-broadcast"
    assert "RuntimeError: only whole batches" in note.evidence


def test_it_prints_as_a_table():
    model = model_of(uq.DistributionHead(1, name="head"))
    text = str(uq.diagnose(model, X, Y, "mse"))
    assert "1 problem(s) found" in text
    assert "loss-on-params" in text
    assert max(map(len, text.splitlines())) <= 100
