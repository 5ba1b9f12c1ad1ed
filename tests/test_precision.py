"""The five questions, trained in every precision; likelihood and KL stay wide."""

import functools

import keras
import numpy as np
import pytest
from backend import to_numpy
from backend import value_and_gradients
from keras import ops

import keras_uq_layers as uq

WIDE = ("float32", "float64")
ROWS = 256


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def rng():
    return np.random.default_rng(0)


def bump():
    x = rng().uniform(-1, 1, (ROWS, 1))
    layer = uq.BumpLayer(sigma_initializer=keras.initializers.Constant(0.3))
    return [layer], "mse", x, to_numpy(uq.numerics.bump(x, 0.6))


def likelihood():
    layer = uq.NormalLikelihood(add_nll=True)
    return [layer], None, rng().normal(1.0, 0.5, (ROWS, 1)), None


def variational_regression():
    x = rng().uniform(-1, 2, (ROWS, 1))
    y = x**3 + 0.1 * (2 + x) * rng().normal(size=x.shape)
    layers = [
        uq.DenseVariational(8, "relu", kl_weight=1 / ROWS, estimator=estimator)
        for estimator in ("reparameterization", "flipout", "local_reparameterization")
    ]
    head = uq.DistributionHead(1)
    return [*layers, head], uq.losses.NegativeLogLikelihood(), x, y


def mean_and_variance():
    x = rng().uniform(50, 150, (ROWS, 1))
    y = np.sin(x / 15 - 4) + 2 + rng().normal(0, 0.2, x.shape)
    standardise = keras.layers.Normalization()
    standardise.adapt(x)
    hidden = [keras.layers.Dense(32, "tanh") for _ in range(2)]
    layers = [standardise, *hidden, uq.DistributionHead(1)]
    return layers, uq.losses.NegativeLogLikelihood(), x, y


def autoencoder():
    code = rng().normal(size=(ROWS, 2))
    x = np.tanh(code @ rng().normal(size=(2, 8)))
    layers = [
        keras.layers.Dense(16, "relu"),
        uq.DistributionHead(2),
        uq.NormalSampling(),
        keras.layers.Dense(16, "relu"),
        uq.ConstantVarianceHead(8, trainable_scale=True),
    ]
    return layers, uq.losses.NegativeLogLikelihood(), x, x


CASES = [bump, likelihood, variational_regression, mean_and_variance, autoencoder]


on_x64 = pytest.mark.skipif(
    keras.backend.backend() == "jax" and dtype_of(ops.ones(1, "float64")) != "float64",
    reason="float64 needs JAX_ENABLE_X64=1",
)
each_policy = pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", pytest.param("float64", marks=on_x64)]
)


def trained(case):
    layers, loss, x, y = case()
    model = keras.Sequential(layers)
    # Without XLA, which is slow to compile: here only the precision matters.
    model.compile(keras.optimizers.Adam(0.005), loss, jit_compile=False)
    history = model.fit(x, y, batch_size=32, epochs=4, verbose=0).history["loss"]
    return model, history


@pytest.fixture(scope="module")
def in_float32():
    """Function from a case to its losses in float32."""
    return functools.cache(lambda case: trained(case)[1])


@each_policy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_short_training(case, policy, in_float32):
    expected = in_float32(case)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model, history = trained(case)
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    if policy != "float64":  # which starts from other random weights and noise
        gain = expected[0] - expected[-1]
        assert abs(history[-1] - expected[-1]) < 0.05 * gain
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    check_dtypes(model, *case()[1:])


def check_dtypes(model, loss, x, y):
    """What the layers add, and what the loss computes, is float32 at least."""
    params = model(x, training=True)
    assert {dtype_of(value) for value in model.losses} <= {"float32"}
    for layer in model.layers:
        if hasattr(layer, "kl"):
            wide = "float64" if layer.compute_dtype == "float64" else "float32"
            assert dtype_of(layer.kl()) == wide
    if isinstance(loss, keras.losses.Loss):
        assert dtype_of(params) in WIDE
        assert dtype_of(loss(y, params)) in WIDE


@on_x64
@pytest.mark.parametrize("case", [variational_regression, likelihood, autoencoder])
def test_all_of_it_in_float64(case):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    layers, loss, x, y = case()
    model = keras.Sequential(layers)
    params = model(x, training=True)
    assert {dtype_of(value) for value in model.losses} == {"float64"}
    if loss is not None:
        assert dtype_of(loss.call(ops.convert_to_tensor(y, "float64"), params)) == (
            "float64"
        )
        # PyTorch: `upstream/test_keras_turns_float64_into_float32.py`
        mean = "float32" if keras.backend.backend() == "torch" else "float64"
        assert dtype_of(loss(y, params)) == mean


@pytest.mark.parametrize(
    "make",
    [
        lambda: uq.DistributionHead(1, kernel_initializer="ones"),
        lambda: uq.DistributionHead(1, "student_t", kernel_initializer="ones"),
        lambda: uq.ConstantVarianceHead(1, kernel_initializer="ones"),
    ],
)
def test_activations_at_the_end_of_float16_do_not_overflow(make):
    """A sum of eight of them is beyond float16, and so is its square."""
    keras.config.set_dtype_policy("mixed_float16")
    head = make()
    x = ops.cast(np.full((4, 8), 6e4), "float16")
    y = np.zeros((4, 1), "float32")
    family = getattr(head, "family", "normal")
    loss = uq.losses.NegativeLogLikelihood(family)
    head.build(x.shape)
    kernel = to_numpy(head.dense.kernel.value)

    def of_kernel(value):
        with keras.StatelessScope([(head.dense.kernel, value)]):
            return loss(y, head(x))

    value, (gradient,) = value_and_gradients(of_kernel, kernel)
    assert np.isfinite(to_numpy(head(x))).all()
    assert to_numpy(head(x))[0, 0] > np.finfo("float16").max
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("estimator", uq.DenseVariational.estimators)
def test_a_random_layer_overflows_no_sooner_than_a_dense_one(estimator):
    """Sums that float16 holds, of inputs whose squares it does not."""
    keras.config.set_dtype_policy("mixed_float16")
    layer = uq.DenseVariational(
        2, kl_weight=1.0, estimator=estimator, kernel_initializer="zeros"
    )
    x = ops.cast(np.full((4, 8), 1e4), "float16")
    assert np.isfinite(to_numpy(layer(x, training=True))).all()
