"""Models out of Python: the numbers of Keras, and no draw that is frozen."""

import keras
import numpy as np
import pytest
from every_family import EVERY_FAMILY

import keras_uq_layers as uq

if keras.backend.backend() != "tensorflow":
    pytest.skip("Keras exports to all formats on TensorFlow", allow_module_level=True)
import tensorflow as tf

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing")
pytest.importorskip("tf2onnx", reason="tf2onnx is missing")
interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="ai-edge-litert is missing"
)

pytestmark = [
    # Keras, TensorFlow and the converters, of themselves:
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
ENDINGS = {"tf_saved_model": "", "onnx": ".onnx", "litert": ".tflite"}
FORMATS = sorted(ENDINGS)


def exported(model, folder, format):
    """A function that runs the exported file, without Keras."""
    path = str(folder / f"model{ENDINGS[format]}")
    model.export(path, format=format, verbose=False)
    if format == "tf_saved_model":
        loaded = tf.saved_model.load(path)
        return lambda x: tf.nest.map_structure(lambda t: t.numpy(), loaded.serve(x))
    if format == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(x):
            (given,) = session.get_inputs()
            values = session.run(None, {given.name: x})
            return dict(zip(names, values, strict=True))

        return run
    lite = interpreter.Interpreter(path)

    def run(x):
        runner = lite.get_signature_runner()
        (name,) = runner.get_input_details()
        return runner(**{name: x})

    return run


def single(answer):
    if isinstance(answer, dict):
        (answer,) = answer.values()
    return answer


def model_of(*layers):
    model = keras.Sequential([keras.Input((3,)), *layers])
    model(X)  # Keras exports to ONNX what was called
    return model


def model_of_every_head(format):
    """One model, because a converter takes as long for one head as for all."""
    heads = [uq.ConstantVarianceHead(2, scale=0.5, name="constant")]
    for family in EVERY_FAMILY:
        heads.append(uq.DistributionHead(2, family=family, name=family.name))
    if format != "onnx":  # it has no Log1p
        heads.append(uq.OrdinalHead(4, trainable_scale=True, name="ordinal"))
    if format == "tf_saved_model":  # the others have no Erfc
        heads.append(uq.OrdinalHead(2, link="normal", name="ordinal_normal"))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {head.name: head(inputs) for head in heads})
    model(X)
    return model


@pytest.mark.parametrize("format", FORMATS)
def test_heads(format, tmp_path):
    model = model_of_every_head(format)
    answer, expected = exported(model, tmp_path, format)(X), model(X)
    assert set(answer) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            answer[name], value.numpy(), rtol=2e-5, atol=1e-6, err_msg=name
        )


RANDOM = {
    "weights": lambda: uq.DenseVariational(4, kl_weight=0.1, seed=1),
    "wrapper": lambda: uq.Variational(keras.layers.Dense(4), kl_weight=0.1, seed=1),
    "examples": lambda: uq.MCDropout(0.5, seed=1),
}


@pytest.mark.parametrize("noise", RANDOM)
def test_a_saved_model_draws_afresh_and_goes_on_where_keras_was(noise, tmp_path):
    model = model_of(RANDOM[noise](), uq.DistributionHead(1))
    run = exported(model, tmp_path, "tf_saved_model")
    first, second = run(X), run(X)
    assert not np.allclose(first, second)
    np.testing.assert_allclose(first, model(X).numpy(), rtol=1e-5)
    np.testing.assert_allclose(second, model(X).numpy(), rtol=1e-5)


@pytest.mark.parametrize("format", ["litert", "onnx"])
@pytest.mark.parametrize("noise", RANDOM)
def test_a_format_without_state_is_refused(noise, format, tmp_path):
    model = model_of(RANDOM[noise](), uq.DistributionHead(1))
    with pytest.raises(ValueError, match="to_deterministic") as caught:
        exported(model, tmp_path, format)
    assert f"format='{format}'" in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
def test_deterministic_models(format, tmp_path):
    layers = [make() for make in RANDOM.values()]
    model = uq.to_deterministic(model_of(*layers, uq.DistributionHead(1)))
    model(X)
    run = exported(model, tmp_path, format)
    np.testing.assert_allclose(single(run(X)), model(X).numpy(), rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(single(run(X)), single(run(X)))


# Families whose quantiles have a closed form in operations that all three know.
EVERYWHERE = ["normal", "laplace", "bernoulli", uq.families.Quantiles([0.1, 0.5, 0.9])]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("family", EVERYWHERE, ids=str)
def test_serving_models(family, format, tmp_path):
    served = uq.serving_model(
        model_of(uq.DistributionHead(2, family=family)), family, level=0.8
    )
    expected = {name: value.numpy() for name, value in served(X).items()}
    answer = exported(served, tmp_path, format)(X)
    assert set(answer) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_a_decision_is_served(format, tmp_path):
    selection = uq.calibration.SelectivePrediction(score="entropy", threshold=0.9)
    model = model_of(uq.VectorScaling([9.0, 1.0, 0.5], [0.0, 1.0, 0.0]))
    served = uq.serving_model(model, selection=selection)
    expected = served(X)["accept"].numpy()
    assert 0 < expected.mean() < 1
    answer = exported(served, tmp_path, format)(X)["accept"]
    np.testing.assert_array_equal(answer, expected)


def test_a_root_search_is_served_by_a_saved_model(tmp_path):
    served = uq.serving_model(
        model_of(uq.DistributionHead(1, family="gamma")), "gamma", level=0.8
    )
    answer = exported(served, tmp_path, "tf_saved_model")(X)
    for name, value in served(X).items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-5)


def test_a_serving_model_says_what_the_prediction_says():
    model = model_of(uq.DistributionHead(2))
    answer = uq.serving_model(model, level=0.8).predict(X, verbose=0)
    prediction = uq.predict(model, X, verbose=0)
    lower, upper = prediction.interval(0.8)
    expected = {
        "mean": prediction.mean,
        "std": prediction.std,
        "lower": lower,
        "upper": upper,
    }
    assert set(answer) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-4, atol=1e-5)


def test_a_serving_model_is_saved_and_loaded(tmp_path):
    family = uq.families.Quantiles([0.05, 0.5, 0.95])
    head = uq.DistributionHead(1, family=family)
    served = uq.serving_model(model_of(head), family, level=0.9)
    served.save(tmp_path / "served.keras")
    loaded = keras.saving.load_model(tmp_path / "served.keras", safe_mode=True)
    assert set(served(X)) == {"lower", "upper"}
    for name, value in served(X).items():
        np.testing.assert_array_equal(loaded(X)[name], value)


def test_serving_models_of_classes_have_no_interval():
    model = model_of(uq.DistributionHead(4, family="categorical"))
    assert set(uq.serving_model(model, "categorical")(X)) == {"mean", "std"}


def test_quantiles_are_served_at_their_levels_alone():
    model = model_of(uq.DistributionHead(1, uq.families.Quantiles([0.1, 0.9])))
    assert set(uq.serving_model(model, level=0.8)(X)) == {"lower", "upper"}
    with pytest.raises(ValueError, match=r"^`p` must be between the outermost levels"):
        uq.serving_model(model, level=0.9)


def test_dropout_that_keras_would_switch_off_is_not_served():
    """`uq.predict` draws from it; a saved model would not."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5)(inputs, training=True)
    model = keras.Model(inputs, uq.DistributionHead(1)(hidden))
    with pytest.raises(ValueError, match="must not call a random layer with `training"):
        uq.serving_model(model)
    fixed = uq.to_deterministic(model)
    x = np.ones((2, 3), "float32")
    mean = uq.serving_model(fixed).predict(x, verbose=0)["mean"]
    np.testing.assert_allclose(mean, model.predict(x, verbose=0)[:, :1], rtol=1e-5)


def test_a_model_in_float64_is_served():
    model = keras.Sequential(
        [keras.Input((3,)), uq.DistributionHead(1, "gamma", dtype="float64")]
    )
    served = uq.serving_model(model)(np.ones((2, 3)))
    assert keras.backend.standardize_dtype(served["lower"].dtype) == "float64"


def test_what_cannot_be_served():
    model = model_of(uq.DistributionHead(1))
    with pytest.raises(ValueError, match="`level` must be inside"):
        uq.serving_model(model, level=1.0)
    with pytest.raises(ValueError, match="`model` must be a built"):
        uq.serving_model(keras.Sequential([uq.DistributionHead(1)]))
    with pytest.raises(ValueError, match="the family of the model's head"):
        uq.serving_model(model, "student_t")
    with pytest.raises(ValueError, match="blocks"):
        uq.serving_model(model_of(keras.layers.Dense(3)), "normal")
    twice = keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])
    with pytest.raises(ValueError, match="one output"):
        uq.serving_model(twice)
