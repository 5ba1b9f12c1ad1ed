"""One small broken model for each fault that the doctor knows."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_uq_layers as uq

ROWS = 40
NLL = uq.losses.NegativeLogLikelihood
ON_JAX = keras.backend.backend() == "jax"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype("float32")
Y = (X[:, 0] + 0.3 * RNG.normal(size=ROWS)).astype("float32")


def model_of(*parts):
    return keras.Sequential([keras.Input(X.shape[1:]), *parts])


def found(*args, **kwargs):
    diagnosis = uq.diagnose(*args, **kwargs)
    print(diagnosis)
    return {finding.code: finding for finding in diagnosis.problems}


def only(code, path="", *args, **kwargs):
    problems = found(*args, **kwargs)
    assert set(problems) == {code}
    assert path in problems[code].path
    return problems[code]


class Function(layers.Layer):
    """A layer of a function, with a weight to train."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.function(x, self.w)

    def get_config(self):
        return {**super().get_config(), "function": self.function}


# Data and finiteness


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_not_finite(name, value):
    data = {"x": X.copy(), "y": Y.copy()}
    data[name][7] = value
    problem = only(
        "data-not-finite", name, model_of(layers.Dense(1)), data["x"], data["y"], "mse"
    )
    assert "row 7" in problem.evidence


def test_the_first_layer_with_a_bad_output_in_a_nested_model():
    inner = keras.Sequential(
        [layers.Dense(3), Function(lambda x, w: ops.log(w * x), name="logarithm")],
        name="inner",
    )
    model = model_of(inner, layers.Dense(2), layers.Dense(1))
    only("output-not-finite", "inner/logarithm", model, X, Y, "mse")


def test_a_weight_that_is_broken():
    model = model_of(layers.Dense(2, name="broken"), layers.Dense(1))
    model.layers[0].kernel.assign(np.full((4, 2), np.nan))
    only("weight-not-finite", "broken/kernel", model, X, Y, "mse")


def test_a_loss_that_is_not_finite():
    def loss(y, p):
        return ops.log(0.0 * p)

    only("loss-not-finite", "loss", model_of(layers.Dense(1)), X, Y, loss)


def test_a_gradient_that_is_not_finite_in_the_loss():
    def loss(y, p):
        return ops.sqrt(ops.square(p - p))

    problem = only("gradient-not-finite", "", model_of(layers.Dense(1)), X, Y, loss)
    assert problem.path == "loss"


def test_a_gradient_that_is_not_finite_in_a_layer():
    root = Function(lambda x, w: ops.sqrt(ops.square(x - x)) + w * x, name="root")
    model = model_of(layers.Dense(6), root, layers.Dense(1))
    only("gradient-not-finite", "root", model, X, Y, "mse")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: ops.stop_gradient(x * w),
        lambda x, w: ops.clip(100.0 + x * w, 0.0, 1.0),
        lambda x, w: ops.round(x * w),
    ],
)
def test_no_gradient_gets_through(function):
    model = model_of(Function(function, name="stop"), layers.Dense(1))
    problems = found(model, X, Y, "mse")
    assert set(problems) <= {"no-gradient", "zero-gradient"}
    assert any("stop" in problem.path for problem in problems.values())


def test_units_that_are_all_dead():
    dead = layers.Dense(
        4, "relu", bias_initializer=keras.initializers.Constant(-99), name="dead"
    )
    only("zero-gradient", "dead", model_of(dead, layers.Dense(1)), X, Y, "mse")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_inputs_that_saturate(activation):
    model = model_of(layers.Dense(8, activation, name="first"), layers.Dense(1))
    only("saturated", "first", model, 300 + 50 * X, Y, "mse")


def test_a_model_that_is_wholly_frozen():
    model = model_of(layers.Dense(1))
    model.trainable = False
    problem = only("no-trainable-weights", model.name, model, X, Y, "mse")
    assert "None of the 2 weights" in problem.evidence


# Shapes


def test_a_loss_that_broadcasts():
    def loss(y, p):
        return ops.mean(ops.square(y - p[:, 0]))

    only("shapes-broadcast", "", model_of(layers.Dense(2)), X, Y[:, None], loss)


def test_the_same_loss_without_the_trap():
    def loss(y, p):
        return ops.mean(ops.square(y - p[:, :1]))

    assert not found(model_of(layers.Dense(2)), X, Y[:, None], loss)


@pytest.mark.parametrize(("units", "targets"), [(3, 1), (1, 3)])
def test_outputs_that_broadcast(units, targets):
    model = model_of(layers.Dense(units))
    y = np.repeat(Y[:, None], targets, axis=1)
    only("wrong-outputs", "", model, X, y, "mse")


def test_outputs_that_do_not_fit():
    model = model_of(uq.DistributionHead(2))
    only("wrong-outputs", "y", model, X, np.stack([Y] * 3, 1), NLL())


def test_a_model_that_cannot_be_called():
    model = model_of(layers.Dense(2, name="first"))
    only("call-failed", "", model, X[:, :3], Y, "mse")


STUDENT_3, STUDENT_30 = uq.families.StudentT(3), uq.families.StudentT(30)


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        ("laplace", NLL("normal")),
        (STUDENT_3, NLL(STUDENT_30)),
        (
            uq.families.Quantiles([0.05, 0.5, 0.95]),
            uq.losses.Pinball([0.25, 0.5, 0.75]),
        ),
    ],
    ids=["names", "degrees of freedom", "levels"],
)
def test_a_head_and_a_loss_of_different_families(family, loss):
    model = model_of(uq.DistributionHead(1, family, name="head"))
    only("family-mismatch", "head", model, X, Y, loss)


def test_a_metric_of_another_family():
    model = model_of(uq.DistributionHead(1, STUDENT_3, name="head"))
    model.compile("sgd", NLL(), metrics=[uq.metrics.CRPS("student_t")])
    assert not found(model, X, Y)
    model.compile("sgd", NLL(), metrics=[uq.metrics.CRPS(STUDENT_30)])
    only("family-mismatch", "head", model, X, Y)


def test_a_loss_and_a_metric_of_different_families_without_a_head():
    model = model_of(layers.Dense(2, "softplus"))
    model.compile("sgd", NLL(STUDENT_3), metrics=[uq.metrics.CRPS(STUDENT_30)])
    only("family-mismatch", "", model, X, Y)


def test_a_loss_without_a_family_and_without_a_head():
    model = model_of(layers.Dense(2, name="last"))
    only("no-family", "last", model, X, Y, NLL())


def test_a_squared_error_on_params():
    model = model_of(uq.DistributionHead(1, name="head"))
    only("loss-on-params", "head", model, X, Y, "mse")


@pytest.mark.parametrize(
    "metric", ["mae", "mean_squared_error", keras.metrics.RootMeanSquaredError()]
)
def test_a_metric_on_params(metric):
    model = model_of(uq.DistributionHead(1, name="head"))
    model.compile("adam", NLL(), metrics=[metric])
    only("metric-on-params", "head", model, X, Y)


@pytest.mark.parametrize("metric", ["accuracy", keras.metrics.BinaryAccuracy()])
def test_the_accuracy_of_logits(metric):
    model = model_of(uq.DistributionHead(1, "bernoulli", name="head"))
    model.compile("adam", NLL(), metrics=[metric])
    problem = only("accuracy-of-logits", "head", model, X, Y > 0)
    assert "`uq.metrics.Accuracy()`" in problem.advice
    model.compile("adam", NLL(), metrics=[uq.metrics.Accuracy()])
    assert not found(model, X, Y > 0)


def test_the_accuracy_of_logits_in_plain_keras():
    model = model_of(layers.Dense(1, name="last"))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    only("accuracy-of-logits", "last", model, X, Y[:, None] > 0)


def in_two_outputs(structure):
    """Outputs `r`, a head, and `c`, classes: their order is not alphabetical."""
    inputs = keras.Input((4,))
    made = {
        "r": uq.DistributionHead(1, "laplace", name="r")(inputs),
        "c": layers.Dense(3, "softmax", name="c")(inputs),
    }
    loss = {"r": NLL("laplace"), "c": "sparse_categorical_crossentropy"}
    y = {"r": Y, "c": np.arange(ROWS) % 3}
    if structure is not dict:
        made, y = structure(made.values()), structure(y.values())
    return keras.Model(inputs, made), loss, y


@pytest.mark.parametrize(
    ("structure", "named"),
    [(dict, True), (list, True), (tuple, True), (list, False), (tuple, False)],
)
def test_several_outputs_in_an_order_that_is_not_alphabetical(structure, named):
    model, loss, y = in_two_outputs(structure)
    if not named:
        loss = list(loss.values())
    model.compile("sgd", loss, metrics={"r": [uq.metrics.CRPS()], "c": ["accuracy"]})
    assert not found(model, X, y)


@pytest.mark.parametrize("structure", [dict, list, tuple])
def test_a_fault_in_one_of_several_outputs(structure):
    model, loss, y = in_two_outputs(structure)
    model.compile("sgd", {**loss, "r": "mse"})
    only("loss-on-params", "r", model, X, y)


def test_a_metric_of_the_other_output():
    inputs = keras.Input((4,))
    head = uq.DistributionHead(1, name="head")(inputs)
    point = layers.Dense(1, name="point")(inputs)
    model = keras.Model(inputs, {"head": head, "point": point})
    model.compile("sgd", {"head": NLL(), "point": "mse"}, metrics={"point": "mae"})
    assert not found(model, X, {"head": Y, "point": Y})


def test_a_layer_after_a_head():
    last = layers.Dense(2, name="last")
    model = model_of(uq.DistributionHead(3), last)
    only("layer-after-head", "last", model, X, X[:, :2], "mse")


# The loss


def test_targets_that_are_no_probabilities():
    model = model_of(layers.Dense(4, "sigmoid"))
    only("targets-not-probabilities", "y", model, X, X, "binary_crossentropy")


def test_such_targets_in_a_loss_of_the_user():
    def loss(y, p):
        return ops.sum(keras.losses.binary_crossentropy(y, p))

    model = model_of(layers.Dense(4, "sigmoid"))
    only("targets-not-probabilities", "y", model, X, X, loss)


CATEGORICAL = uq.families.Categorical(from_logits=False)
BERNOULLI = uq.families.Bernoulli(from_logits=False)


@pytest.mark.parametrize(
    ("units", "loss"),
    [
        (1, "binary_crossentropy"),
        (3, "sparse_categorical_crossentropy"),
        (3, NLL(CATEGORICAL)),
        (1, NLL(BERNOULLI)),
    ],
    ids=["binary", "classes", "categorical", "bernoulli"],
)
def test_logits_that_are_taken_as_probabilities(units, loss):
    # All of them between 0 and 1: values alone do not tell.
    last = layers.Dense(
        units,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(0.4),
        name="last",
    )
    y = np.arange(ROWS) % max(units, 2)
    model = model_of(last)
    only("logits-as-probabilities", "last", model, X, y, loss)


@pytest.mark.parametrize(
    ("units", "last", "loss"),
    [
        (
            3,
            layers.Activation("softmax", name="last"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ),
        (
            1,
            layers.Activation("sigmoid", name="last"),
            keras.losses.BinaryCrossentropy(from_logits=True),
        ),
        (3, layers.Softmax(name="last"), NLL(uq.families.Categorical())),
        (
            1,
            layers.Activation("sigmoid", name="last"),
            NLL(uq.families.Bernoulli()),
        ),
    ],
    ids=["classes", "binary", "categorical", "bernoulli"],
)
def test_probabilities_that_are_taken_as_logits(units, last, loss):
    y = np.arange(ROWS) % max(units, 2)
    model = model_of(layers.Dense(units), last)
    only("probabilities-as-logits", "last", model, X, y, loss)


def test_a_metric_that_takes_probabilities_as_logits():
    model = model_of(layers.Dense(3, "softmax", name="last"))
    y, loss = np.arange(ROWS) % 3, "sparse_categorical_crossentropy"
    ece = uq.metrics.ExpectedCalibrationError
    model.compile("sgd", loss, metrics=[ece(CATEGORICAL), "accuracy"])
    assert not found(model, X, y)
    model.compile("sgd", loss, metrics=[ece(uq.families.Categorical())])
    only("probabilities-as-logits", "last", model, X, y)


def test_the_name_of_a_family_means_probabilities_where_keras_notes_them():
    model = model_of(layers.Dense(3, "softmax", name="last"))
    problems = found(model, X, np.arange(ROWS) % 3, NLL("categorical"))
    # JAX's tracers carry no note: there the loss reads logits.
    assert set(problems) == ({"probabilities-as-logits"} if ON_JAX else set())


def test_a_scale_at_its_floor():
    low = keras.initializers.Constant(-30.0)
    model = model_of(uq.DistributionHead(1, bias_initializer=low, name="head"))
    assert "scale-at-floor" in found(model, X, Y, NLL())


def test_a_likelihood_layer_at_its_floor():
    model = model_of(uq.NormalLikelihood(add_nll=True, scale_initializer="zeros"))
    assert "scale-at-floor" in found(model, X)


def test_scales_that_are_not_positive():
    only("scale-not-positive", "", model_of(layers.Dense(2)), X, Y, NLL("normal"))


def test_log_variances_for_the_sampling_layer():
    model = model_of(
        layers.Dense(4), uq.NormalSampling(name="draw"), uq.ConstantVarianceHead(4)
    )
    assert "log-variance-as-scale" in found(model, X, X, NLL())


def test_targets_in_another_unit():
    model = model_of(uq.DistributionHead(1, name="head"))
    only("scale-far-too-small", "head", model, X, 1e4 * Y, NLL())


# The KL


def variational(**options):
    return uq.DenseVariational(6, activation="tanh", **options)


def test_the_weight_of_the_kl():
    model = model_of(variational(kl_weight=1.0, name="hidden"), uq.DistributionHead(1))
    problem = only("kl-weight", "hidden", model, X, Y, NLL())
    assert "40" in problem.evidence


def test_the_weight_of_the_kl_for_a_known_size():
    model = model_of(variational(kl_weight=1 / ROWS), uq.DistributionHead(1))
    assert not found(model, X, Y, NLL())
    assert "kl-weight" in found(model, X, Y, NLL(), training_size=50 * ROWS)


class ModelWithKL(keras.Model):
    def __init__(self, weight):
        super().__init__()
        self.hidden = variational(kl_weight=1 / ROWS)
        self.head = uq.DistributionHead(1)
        self.weight = weight

    def call(self, x):
        output = self.head(self.hidden(x))
        self.add_loss(self.weight * self.hidden.kl())
        return output


def test_a_kl_that_is_added_twice():
    assert "kl-twice" in found(ModelWithKL(1 / ROWS), X, Y, NLL())


class AddsAtEachCall(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        self.add_loss(0.01 * ops.sum(ops.square(self.w)))
        return x * self.w


def test_a_kl_that_is_added_at_each_call():
    shared = AddsAtEachCall(name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(shared(shared(inputs))))
    only("kl-twice", "shared", model, X, Y, "mse")


def test_weights_that_collapsed_to_the_prior():
    model = model_of(variational(kl_weight=1 / ROWS, name="hidden"), layers.Dense(1))
    posterior = model.layers[0]
    for mean in (posterior.kernel, posterior.bias):
        mean.assign(0.0 * mean)
    raw = next(v for v in posterior.trainable_weights if "raw_scale" in v.name)
    raw.assign(np.full(raw.shape, np.log(np.e - 1)))
    assert "collapsed-to-prior" in found(model, X, Y, "mse")


def test_a_code_that_collapsed_to_the_prior():
    model = model_of(
        uq.DistributionHead(2, kernel_initializer="zeros"),
        uq.NormalSampling(name="draw"),
        uq.ConstantVarianceHead(4),
    )
    assert "collapsed-to-prior" in found(model, X, X, NLL())


# Randomness and saving


class Noise(layers.Layer):
    def __init__(self, draw, only_training=False, **kwargs):
        super().__init__(**kwargs)
        self.draw, self.only_training = draw, only_training
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if self.only_training and not training:
            return x
        return x + self.draw(self, x)

    def get_config(self):
        config = {"draw": self.draw, "only_training": self.only_training}
        return {**super().get_config(), **config}


def without_a_seed(self, x):
    return keras.random.normal(ops.shape(x))


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(
            without_a_seed,
            marks=pytest.mark.skipif(ON_JAX, reason="Keras itself refuses it there"),
        ),
        lambda self, x: keras.random.normal(ops.shape(x), seed=1),
        lambda self, x: np.random.normal(size=x.shape).astype("float32"),  # noqa: NPY002
    ],
    ids=["no seed", "a constant", "numpy"],
)
def test_noise_without_a_seed_generator(draw):
    model = keras.Sequential([Noise(draw), layers.Dense(1)])
    only("no-seed-generator", "", model, X, Y, "mse")


def with_generator(self, x):
    return keras.random.normal(ops.shape(x), seed=self.seed_generator)


@pytest.mark.parametrize(
    ("only_training", "code"),
    [(False, "samples-at-inference"), (True, "deterministic-at-inference")],
)
def test_what_is_random_at_inference_is_noted(only_training, code):
    model = model_of(Noise(with_generator, only_training), layers.Dense(1))
    diagnosis = uq.diagnose(model, X, Y, "mse")
    assert diagnosis.ok
    assert code in diagnosis.codes


class NoConfig(layers.Layer):
    def __init__(self, factor, function):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


def test_a_layer_without_a_config():
    model = model_of(NoConfig(2.0, np.sin), layers.Dense(1))
    problem = only("no-config", "", model, X, Y, "mse")
    assert "factor, function" in problem.advice


def test_a_layer_that_is_not_registered_is_noted():
    diagnosis = uq.diagnose(model_of(AddsAtEachCall(), layers.Dense(1)), X, Y, "mse")
    assert diagnosis.ok
    assert "not-registered" in diagnosis.codes


# Held-out data


def head_with_scale(scale):
    model = model_of(uq.ConstantVarianceHead(1, scale=scale, use_bias=False))
    model.layers[0].dense.set_weights([np.eye(4, 1)])
    return model


def test_over_confidence():
    validation = (X, Y)
    model = head_with_scale(0.05)
    problem = only("over-confident", "", model, X, Y, NLL(), validation_data=validation)
    assert "%" in problem.evidence
    assert not found(head_with_scale(0.3), X, Y, NLL(), validation_data=validation)


def test_a_variance_that_collapsed_on_the_training_data():
    model = head_with_scale(0.05)
    memorised = X[:, 0] + 0.04 * np.random.default_rng(2).normal(size=ROWS)
    only("variance-collapse", "", model, X, memorised, NLL(), validation_data=(X, Y))


# What it leaves


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
