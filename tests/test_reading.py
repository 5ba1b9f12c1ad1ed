"""Which family reads a model: the head, the loss, the activation, or nobody."""

import keras
import numpy as np
import pytest
from backend import to_numpy

import keras_uq_layers as uq
from keras_uq_layers.families import Bernoulli
from keras_uq_layers.families import Categorical
from keras_uq_layers.families import Gamma
from keras_uq_layers.families import Laplace
from keras_uq_layers.families import Point
from keras_uq_layers.families import StudentT
from keras_uq_layers.reading import Emitted
from keras_uq_layers.reading import family_of

layers = keras.layers
X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.random.default_rng(1).gamma(3.0, size=(8, 1)).astype("float32")


def sequential(*rest):
    return keras.Sequential([keras.Input((3,)), *rest])


class Subclassed(keras.Model):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def call(self, inputs):
        return self.head(inputs)


def nested():
    inputs = keras.Input((3,))
    return keras.Model(inputs, sequential(uq.DistributionHead(1, "gamma"))(inputs))


def subclassed():
    model = Subclassed(uq.DistributionHead(1, "gamma"))
    model(X)
    return model


def ensemble():
    model = uq.Ensemble(lambda: sequential(uq.DistributionHead(1, "gamma")), 2)
    model(X)
    return model


def scaled():
    return sequential(uq.DistributionHead(3, "categorical"), uq.TemperatureScaling())


BUILT = {
    "sequential": (lambda: sequential(uq.DistributionHead(1, "gamma")), Gamma()),
    "nested": (nested, Gamma()),
    "subclassed": (subclassed, Gamma()),
    "ensemble": (ensemble, Gamma()),
    "constant": (lambda: sequential(uq.ConstantVarianceHead(1)), uq.families.Normal()),
    "scaled": (scaled, Categorical()),
}


@pytest.mark.parametrize("name", BUILT)
def test_the_head_is_asked_first(name):
    build, family = BUILT[name]
    model = build()
    model.compile(loss=uq.losses.NegativeLogLikelihood())
    # Without a run, a subclassed model does not tell which layer comes last.
    emitted = Emitted.of(model(X))
    assert family_of(model, None, emitted) == family
    assert family_of(model, family.name, emitted) == family
    if name != "subclassed":
        assert family_of(model) == family
    assert uq.predict(model, X, verbose=0).family == family


def test_a_head_inside_a_wrapper():
    model = keras.Sequential(
        [keras.Input((4, 3)), layers.TimeDistributed(uq.DistributionHead(1, "gamma"))]
    )
    assert family_of(model) == Gamma()


def test_a_loaded_model_still_knows(tmp_path):
    sequential(uq.DistributionHead(1, StudentT(df=3))).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert family_of(model, "student_t") == StudentT(df=3)


@pytest.mark.parametrize("given", ["normal", StudentT(df=30), StudentT()])
def test_a_family_that_is_not_that_of_the_head(given):
    model = sequential(uq.DistributionHead(1, StudentT(df=3)))
    for wrong in (
        lambda: uq.predict(model, X, given, verbose=0),
        lambda: uq.serving_model(model, given),
        lambda: uq.losses.NegativeLogLikelihood(given)(Y, model(X)),
        lambda: uq.metrics.CRPS(given).update_state(Y, model(X)),
    ):
        with pytest.raises(ValueError, match=r"must be StudentT\(df=3.0\), the family"):
            wrong()


def test_quantiles_and_pinball_of_other_levels():
    model = sequential(uq.DistributionHead(1, uq.families.Quantiles([0.05, 0.5, 0.95])))
    model.compile(loss=uq.losses.Pinball([0.25, 0.5, 0.75]))
    with pytest.raises(ValueError, match=r"must be Quantiles\(levels=\[0.05, 0.5"):
        model.fit(X, Y, verbose=0)


def test_the_compiled_loss_is_asked_next():
    model = sequential(layers.Dense(2), layers.Activation("softplus"))
    model.compile(loss=uq.losses.NegativeLogLikelihood("laplace"))
    assert family_of(model) == Laplace()
    with pytest.raises(ValueError, match="the family of the model's loss"):
        family_of(model, "normal")


CLASSES = [
    (layers.Dense(3, "softmax"), None, Categorical(from_logits=False)),
    (layers.Softmax(), None, Categorical(from_logits=False)),
    (layers.Activation("softmax"), None, Categorical(from_logits=False)),
    (layers.Dense(2, "sigmoid"), None, Bernoulli(from_logits=False)),
    (layers.Dense(3), "sparse_categorical_crossentropy", Categorical(False)),
    (
        layers.Dense(3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        Categorical(),
    ),
    (
        layers.Dense(3),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        Categorical(),
    ),
    (
        layers.Dense(1),
        keras.losses.BinaryCrossentropy(from_logits=True),
        Bernoulli(),
    ),
    (layers.Dense(1), keras.losses.BinaryCrossentropy(), Bernoulli(False)),
]


@pytest.mark.parametrize(("last", "loss", "family"), CLASSES)
def test_classes_of_plain_keras(last, loss, family):
    model = sequential(last)
    model.compile(loss=loss)
    assert family_of(model) == family
    # The name of a family says nothing about logits: the model does.
    assert family_of(model, family.name) == family
    other = type(family)(from_logits=not family.from_logits)
    with pytest.raises(ValueError, match="last activation or loss"):
        family_of(model, other)


def test_probabilities_are_not_read_as_logits():
    model = sequential(layers.Dense(3, "softmax"))
    probabilities = model.predict(X, verbose=0)
    prediction = uq.predict(model, X, "categorical", verbose=0)
    np.testing.assert_allclose(prediction.mean, probabilities, rtol=1e-5)


def test_a_loss_given_by_name_does_not_make_probabilities_logits():
    model = sequential(layers.Dense(3, "softmax"))
    model.compile(loss=uq.losses.NegativeLogLikelihood("categorical"))
    assert family_of(model) == Categorical(from_logits=False)
    probabilities = model.predict(X, verbose=0)
    for read in (
        uq.predict(model, X, verbose=0).mean,
        uq.serving_model(model).predict(X, verbose=0)["mean"],
    ):
        np.testing.assert_allclose(read, probabilities, rtol=1e-5)
    model.compile(loss=uq.losses.NegativeLogLikelihood(Categorical()))
    with pytest.raises(ValueError, match="the family of the model's last activation"):
        family_of(model)


def test_another_family_of_classes_reads_probabilities_too():
    model = sequential(layers.Dense(3, "softmax"))
    assert family_of(model, "bernoulli") == Bernoulli(from_logits=False)
    assert family_of(model, "beta") == uq.families.Beta()


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Elsewhere Keras notes the logits"
)
def test_a_name_is_not_enough_where_a_step_cannot_see_a_softmax():
    model = sequential(layers.Dense(3, "softmax"))
    model.compile(loss=uq.losses.NegativeLogLikelihood("categorical"))
    with pytest.raises(ValueError, match=r"uq.families.Categorical\(\) for logits"):
        model.fit(X, np.arange(8) % 3, verbose=0)
    # A failed fit of Keras leaves its model without weights on JAX.
    model = sequential(layers.Dense(3, "softmax"))
    model.compile(loss=uq.losses.NegativeLogLikelihood(Categorical(False)))
    model.fit(X, np.arange(8) % 3, verbose=0)
    head = sequential(uq.DistributionHead(3, "categorical"))
    head.compile(loss=uq.losses.NegativeLogLikelihood("categorical"))
    head.fit(X, np.arange(8) % 3, verbose=0)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras cannot note logits on a tracer"
)
def test_an_ensemble_of_softmax_models_is_read_as_its_members():
    model = uq.Ensemble(lambda: sequential(layers.Dense(3, "softmax")), 2)
    model.compile(
        loss=uq.losses.NegativeLogLikelihood("categorical"),
        metrics=[uq.metrics.NegativeLogLikelihood("categorical")],
    )
    labels = np.arange(8) % 3
    logs = model.evaluate(X, labels, verbose=0, return_dict=True)
    p = model.predict(X, verbose=0)
    nll = -np.log(p[np.arange(8), :, labels]).mean()
    np.testing.assert_allclose([logs["loss"], logs["nll"]], [nll, nll], rtol=1e-5)
    np.testing.assert_allclose(
        uq.predict(model, X, verbose=0).mean, p.mean(axis=1), rtol=1e-5
    )


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras cannot note logits on a tracer"
)
def test_metrics_of_probabilities_of_plain_keras():
    model = sequential(layers.Dense(3, "softmax", kernel_initializer="normal"))
    metrics = [
        uq.metrics.ExpectedCalibrationError("categorical"),
        uq.metrics.NegativeLogLikelihood("categorical"),
    ]
    loss = "sparse_categorical_crossentropy"
    model.compile(loss=loss, metrics=metrics)
    labels = np.arange(8) % 3
    logs = model.evaluate(X, labels, verbose=0, return_dict=True)
    p = model.predict(X, verbose=0)
    nll = -np.log(p[np.arange(8), labels]).mean()
    np.testing.assert_allclose(logs["nll"], nll, rtol=1e-5)
    exact = uq.metrics.ExpectedCalibrationError(Categorical(from_logits=False))
    exact.update_state(labels, p)
    np.testing.assert_allclose(logs["ece"], float(exact.result()), rtol=1e-5)
    wrong = uq.metrics.BrierScore(Categorical())
    with pytest.raises(ValueError, match="the model's last activation"):
        wrong.update_state(labels, model(X))


def test_a_plain_model_is_a_plain_prediction():
    model = sequential(layers.Dense(2, "softplus"))
    assert family_of(model) == Point()
    for loss in ("mse", keras.losses.Huber(), lambda y, pred: pred):
        model.compile(loss=loss)
        assert uq.predict(model, X, verbose=0).family == Point()
    with pytest.raises(ValueError, match="`family` must be given for params"):
        uq.losses.NegativeLogLikelihood()(Y, model(X))
    assert uq.predict(model, X, uq.families.Laplace(), samples=1, verbose=0)


def graph(make):
    """A functional model of features `(3,)`."""
    x = keras.Input((3,))
    return keras.Model(x, make(x))


def two(last):
    """Two layers side by side, as the inputs of a third."""
    return lambda x: last([layers.Dense(3, "softmax")(x) for _ in range(2)])


SEEN_THROUGH = {
    "reshape": (
        lambda x: layers.Reshape((1, 3))(layers.Dense(3, "softmax")(x)),
        Categorical(from_logits=False),
    ),
    "identity": (
        lambda x: layers.Activation("linear")(layers.Dense(3, "softmax")(x)),
        Categorical(from_logits=False),
    ),
    "time": (
        lambda x: layers.TimeDistributed(layers.Dense(3, "softmax"))(
            layers.Reshape((3, 1))(x)
        ),
        Categorical(from_logits=False),
    ),
    "image": (
        lambda x: layers.Reshape((2, 2))(layers.Dense(4, "sigmoid")(x)),
        Bernoulli(from_logits=False),
    ),
    "latent": (lambda x: uq.NormalSampling(1.0)(layers.Dense(4)(x)), Point()),
    "decoder": (
        lambda x: layers.Dense(3)(uq.NormalSampling(1.0)(uq.DistributionHead(2)(x))),
        Point(),
    ),
    "gated": (
        lambda x: layers.Dense(1)(layers.multiply([x, layers.Dense(3, "sigmoid")(x)])),
        Point(),
    ),
}


@pytest.mark.parametrize("name", SEEN_THROUGH)
def test_layers_that_only_move_values_are_seen_through(name):
    make, family = SEEN_THROUGH[name]
    assert family_of(graph(make)) == family


CHANGED = {
    "average": two(layers.Average()),
    "flat": two(lambda parts: layers.Flatten()(layers.Concatenate()(parts))),
    "nested": lambda x: keras.Sequential(
        [keras.Input((3,)), layers.Rescaling(2.0), layers.Activation("relu")]
    )(layers.Dense(3, "softmax")(x)),
    "twice": lambda x: 2.0 * layers.Dense(3, "softmax")(x),
    "head": lambda x: layers.Reshape((2, 1))(uq.DistributionHead(1)(x)),
    "heads": lambda x: layers.Average()([uq.DistributionHead(1)(x) for _ in range(2)]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_made_of_params_is_no_plain_prediction(name):
    model = graph(CHANGED[name])
    text = "head" if name.startswith("head") else "the probabilities of"
    with pytest.raises(
        ValueError, match=f"must be given for the model .*made of.*{text}"
    ):
        uq.predict(model, X, verbose=0)
    assert family_of(model, "laplace") == Laplace()
    with pytest.raises(ValueError, match="cannot be told apart"):
        family_of(model, "categorical")
    assert family_of(model, Categorical(False)) == Categorical(False)


def test_a_subclassed_model_is_read_by_what_it_made():
    model = Subclassed(layers.Dense(3, "softmax"))
    with pytest.raises(ValueError, match="emits probabilities, 'categorical' or 'bern"):
        uq.predict(model, X, verbose=0)
    found = uq.predict(model, X, "categorical", verbose=0)
    assert found.family == Categorical(from_logits=False)
    model = Subclassed(layers.Dense(3))
    assert uq.predict(model, X, verbose=0).family == Point()
    with pytest.raises(ValueError, match="cannot be told apart"):
        uq.predict(model, X, "categorical", verbose=0)
    model = Subclassed(
        keras.Sequential(
            [
                layers.Reshape((3, 1)),
                layers.TimeDistributed(layers.Dense(2, "softmax")),
            ]
        )
    )
    with pytest.raises(ValueError, match=r"its layer .* makes probabilities of that w"):
        uq.predict(model, X, verbose=0)
    model = Subclassed(
        keras.Sequential([uq.DistributionHead(1), layers.Reshape((2, 1))])
    )
    with pytest.raises(ValueError, match=r"it has a head, .* which emits no output"):
        uq.predict(model, X, verbose=0)


def test_a_name_of_classes_is_not_enough_for_a_tensor_of_unknown_origin():
    """A layer after a softmax drops the note of Keras: logits would be read."""
    model = graph(SEEN_THROUGH["time"][0])
    labels = np.zeros((8, 3), "int32")
    model.compile(loss=uq.losses.NegativeLogLikelihood("categorical"))
    for read in (
        lambda: uq.metrics.BrierScore("categorical").update_state(labels, model(X)),
        lambda: uq.losses.NegativeLogLikelihood("categorical")(
            labels, model.predict(X, verbose=0)
        ),
        lambda: model.evaluate(X, labels, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"uq.families.Categorical\(\) for logits"):
            read()
    family = Categorical(from_logits=False)
    # A failed evaluation of Keras leaves its model without weights on JAX.
    model = graph(SEEN_THROUGH["time"][0])
    model.compile(loss=uq.losses.NegativeLogLikelihood(family))
    p = model.predict(X, verbose=0)
    np.testing.assert_allclose(
        model.evaluate(X, labels, verbose=0), -np.log(p[..., 0]).mean(), rtol=1e-5
    )


def test_a_tensor_made_from_the_output_has_no_family():
    params = sequential(uq.DistributionHead(1, "gamma"))(X)
    with pytest.raises(ValueError, match="`family` must be given for params"):
        uq.metrics.CRPS().update_state(Y, params + 0.0)


# On PyTorch `jit_compile=True` is `torch.compile`, which warns of itself.
@pytest.mark.parametrize(
    "jit_compile", [False] if keras.backend.backend() == "torch" else [False, True]
)
def test_losses_and_metrics_find_the_family_in_fit(jit_compile):
    """The head is a gamma: read as a normal, the numbers would be others."""
    model = sequential(uq.DistributionHead(1, "gamma"))
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=uq.losses.NegativeLogLikelihood(),
        metrics=[uq.metrics.NegativeLogLikelihood(), uq.metrics.CRPS()],
        jit_compile=jit_compile,
    )
    logs = model.fit(X, Y, verbose=0, validation_data=(X, Y)).history
    params = to_numpy(model(X))
    nll = -to_numpy(Gamma().log_prob(Y, params)).mean()
    crps = to_numpy(Gamma().crps(Y, params)).mean()
    for name, expected in (("loss", nll), ("nll", nll), ("crps", crps)):
        np.testing.assert_allclose(logs[name][0], expected, rtol=1e-4)
        np.testing.assert_allclose(logs[f"val_{name}"][0], expected, rtol=1e-4)


def test_two_outputs_of_two_families():
    """Each loss and metric reads its own output."""
    inputs = keras.Input((3,))
    outputs = {
        "rain": uq.DistributionHead(1, "gamma", name="rain")(inputs),
        "heat": uq.DistributionHead(1, "laplace", name="heat")(inputs),
    }
    model = keras.Model(inputs, outputs)
    nll = uq.losses.NegativeLogLikelihood
    model.compile(
        loss={"rain": nll(), "heat": nll()},
        metrics={"rain": uq.metrics.CRPS(), "heat": uq.metrics.CRPS()},
    )
    y = {"rain": Y, "heat": -Y}
    logs = model.evaluate(X, y, verbose=0, return_dict=True)
    found = model(X)
    rain = to_numpy(Gamma().crps(Y, to_numpy(found["rain"]))).mean()
    heat = to_numpy(Laplace().crps(-Y, to_numpy(found["heat"]))).mean()
    np.testing.assert_allclose(logs["rain_crps"], rain, rtol=1e-4)
    np.testing.assert_allclose(logs["heat_crps"], heat, rtol=1e-4)
