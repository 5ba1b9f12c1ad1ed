"""Arguments, errors and tables of `predict` and `Prediction`."""

import keras
import numpy as np
import pytest
from small_models import inputs
from small_models import normal_mixture
from small_models import normal_model
from small_models import predict

import keras_uq_layers as uq
from keras_uq_layers.prediction.sampler import Sampler


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"samples": 0}, "`samples` must be a positive integer. Received: samples=0"),
        ({"samples": 2.5}, "`samples` must be a positive integer"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"family": "cauchy"}, "`family` must be one of"),
        ({"keep_samples": 1}, "`keep_samples` must be True or False"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        predict(normal_model(), inputs(), **options)


def test_bad_data_and_models():
    with pytest.raises(ValueError, match="`x` must hold at least one example"):
        predict(normal_model(), inputs(0))
    for x in (None, 3, "x", [], {}, [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="`x` must be arrays, or a dataset"):
            predict(normal_model(), x)
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        predict(lambda x: x, inputs())
    odd = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`family` must fit the output of `model`"):
        predict(odd, inputs(), family="normal")
    a = keras.Input((3,))
    flat = keras.Model(a, keras.ops.squeeze(keras.layers.Dense(1)(a), -1))
    with pytest.raises(ValueError, match=r"must have shape \(batch, ..., P \* D\)"):
        predict(flat, inputs())


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, float("nan")])
def test_levels_outside_the_unit_interval(level):
    prediction = normal_mixture()
    with pytest.raises(ValueError, match="`level` must be"):
        prediction.interval(level)
    with pytest.raises(ValueError, match=r"`q` must be inside \(0, 1\)"):
        prediction.quantile([0.5, level])


def message_of(error, call):
    with pytest.raises(error) as raised:
        call()
    return str(raised.value)


def test_errors_arrive_plain():
    """Not inside the report of a private model that the user never called."""
    model, x = normal_model(), inputs()
    odd = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    for _ in range(2):  # with and without a cached graph
        for text in (
            message_of(ValueError, lambda: predict(odd, x, family="normal")),
            message_of(ValueError, lambda: predict(model, x[:, :2])),
            message_of(ValueError, lambda: predict(model, x, family="gamma")),
        ):
            assert "Sampler" not in text
        predict(model, x)


def test_the_way_of_execution_does_not_depend_on_verbose(monkeypatch):
    """One batch of arrays runs as one, whatever is printed."""
    model, x = normal_model(), inputs()
    calls = []
    once = Sampler.predict_on_batch
    monkeypatch.setattr(
        Sampler, "predict_on_batch", lambda self, x: calls.append(1) or once(self, x)
    )
    found = [predict(model, x, verbose=verbose).samples for verbose in (0, 1, "auto")]
    assert len(calls) == 3
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_tables_of_pandas_are_arrays():
    pd = pytest.importorskip("pandas")
    model, x = normal_model(), inputs()
    found = predict(model, pd.DataFrame(x))
    np.testing.assert_allclose(found.samples, predict(model, x).samples, rtol=1e-6)


def test_empty_and_misshapen_samples():
    for shape in ((0, 3, 2), (3, 0, 2), (3, 2)):
        with pytest.raises(ValueError, match="`samples` must be params of shape"):
            uq.Prediction(np.ones(shape), "normal")
    with pytest.raises(ValueError, match="`y` must have shape"):
        normal_mixture(rows=5).log_prob(np.ones((4, 1)))


def test_categorical_has_no_quantile():
    prediction = uq.ClassPrediction(np.zeros((2, 3, 4)), "categorical")
    with pytest.raises(NotImplementedError, match="categorical"):
        prediction.interval(0.9)


def test_repr_and_length():
    prediction = normal_mixture(passes=30, rows=5)
    assert len(prediction) == 5
    text = repr(prediction)
    assert "5 example(s) from 30 pass(es), family Normal()" in text
    assert "epistemic" in text
    assert "mutual_information" in repr(
        uq.ClassPrediction(np.zeros((2, 3, 4)), "categorical")
    )


def test_dataframe():
    pytest.importorskip("pandas")
    table = normal_mixture(rows=5).to_dataframe(level=0.5)
    assert list(table.columns) == [
        "mean",
        "std",
        "aleatoric_std",
        "epistemic_std",
        "lower",
        "upper",
    ]
    assert len(table) == 5
    two = uq.Prediction(np.ones((2, 3, 4, 4)), "normal")
    table = two.to_dataframe()
    assert table.shape == (12, 8)
    assert table.index.nlevels == 2
    classes = uq.ClassPrediction(np.zeros((2, 3, 4)), "categorical").to_dataframe()
    assert list(classes.columns)[-3:] == [
        "entropy",
        "expected_entropy",
        "mutual_information",
    ]
    assert "mean_3" in classes
