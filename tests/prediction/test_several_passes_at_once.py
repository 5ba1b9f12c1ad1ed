"""Passes that run at once are the passes that run one after the other."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from keras import ops
from small_models import inputs
from small_models import normal_model
from small_models import predict

import keras_uq_layers as uq
from keras_uq_layers.numerics.vectorized_map import vectorized_map
from keras_uq_layers.prediction import sampler
from keras_uq_layers.prediction.sampler import Plan
from keras_uq_layers.prediction.sampler import make_plan

BACKEND = keras.backend.backend()
several_only = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="TensorFlow gains nothing by it"
)

POSTERIORS = ("mean_field", "low_rank", "kronecker", "full_covariance")
RANDOM = {
    **{
        posterior: lambda posterior=posterior: [
            uq.DenseVariational(4, "tanh", kl_weight=0.01, posterior=posterior)
        ]
        for posterior in POSTERIORS
    },
    "convolution": lambda: [
        layers.Reshape((3, 1)),
        uq.Conv1DVariational(4, 2, kl_weight=0.01),
        layers.Flatten(),
    ],
    "dropout": lambda: [layers.Dense(4), uq.MCDropout(0.5)],
    "spatial dropout": lambda: [
        layers.Reshape((3, 1)),
        layers.Conv1D(4, 2),
        uq.SpatialMCDropout1D(0.5),
        layers.Flatten(),
    ],
    "concrete dropout": lambda: [
        uq.ConcreteDropout(layers.Dense(4), kl_weight=0.01, initial_rate=0.4)
    ],
    "latent": lambda: [layers.Dense(4), uq.NormalSampling()],
    "wrapper": lambda: [uq.Variational(layers.Dense(4), kl_weight=0.01)],
    "recurrent": lambda: [
        layers.Reshape((3, 1)),
        uq.Variational(layers.GRU(4), kl_weight=0.01),
    ],
    "nested": lambda: [
        layers.Dense(4),
        keras.Sequential([uq.MCDropout(0.5), layers.BatchNormalization()]),
    ],
}


def plan_of(model, x):
    return make_plan(model, ops.convert_to_tensor(x))[0]


def one_after_the_other(monkeypatch):
    monkeypatch.setattr(sampler, "_ENTRIES_AT_ONCE", 0)


@pytest.mark.parametrize("name", RANDOM)
def test_each_random_layer(name, monkeypatch):
    model = keras.Sequential([keras.Input((3,)), *RANDOM[name](), layers.Dense(2)])
    x = inputs(rows=7)
    plan = plan_of(model, x)
    one_by_one = BACKEND == "tensorflow" or (BACKEND, name) == ("jax", "convolution")
    assert (plan.passes_at_once(rows=7) > 8) == (not one_by_one)
    at_once = predict(model, x, samples=11).samples
    assert len(np.unique(at_once[:, 0, 0])) > 2
    one_after_the_other(monkeypatch)
    model.__dict__.pop("_uq_predict_cache")
    np.testing.assert_allclose(
        at_once, predict(model, x, samples=11).samples, rtol=1e-5, atol=1e-6
    )


@several_only
@given(samples=st.integers(2, 9), rows=st.integers(1, 5), entries=st.integers(1, 2**10))
def test_however_many_run_at_once(samples, rows, entries):
    model, x = normal_model(width=4), inputs(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "_ENTRIES_AT_ONCE", entries)
        found = predict(model, x, samples=samples).samples
        one_after_the_other(patch)
        model.__dict__.pop("_uq_predict_cache")
        expected = predict(model, x, samples=samples).samples
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@several_only
def test_no_more_run_at_once_than_caches_hold():
    x = keras.Input((3,))
    wide = layers.Dense(1000)(x)  # in front of what is repeated
    random = uq.MCDropout(0.5)(layers.Dense(20)(wide))
    inner = keras.Sequential(
        [keras.Input((20,)), layers.Dense(50), uq.DenseVariational(5, kl_weight=0.01)]
    )
    model = keras.Model(x, layers.Dense(1)(inner(random)))
    plan = plan_of(model, inputs())
    # The widest layer is in a model in the model. Its kernel of 1000 is not random.
    assert plan.sizes == (50, 250)
    assert plan.passes_at_once(rows=2) == 2**19 // 250
    assert plan.passes_at_once(rows=1000) == 2**19 // 50_000
    assert plan.passes_at_once(rows=2**19 // 50 // 4) == 4
    assert plan.passes_at_once(rows=2**19 // 50 // 3) == 1  # three gain nothing
    assert plan.passes_at_once(rows=2**30) == 1


@several_only
def test_a_covariance_is_not_drawn():
    posterior = {"posterior": "full_covariance", "kl_weight": 0.01}
    model = keras.Sequential([keras.Input((30,)), uq.DenseVariational(20, **posterior)])
    plan = plan_of(model, np.ones((2, 30), "float32"))
    assert plan.sizes == (30, 30 * 20)


def test_an_axis_of_any_length_counts_as_large():
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.Dense(1)(uq.MCDropout(0.5)(x)))
    plan = plan_of(model, np.zeros((2, 5, 3), "float32"))
    assert plan.passes_at_once(rows=1) == 1


class Block(layers.Layer):
    """Is wide inside, which no shape of an output tells."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = layers.Dense(1000), layers.Dense(2)

    def build(self, input_shape):
        self.wide.build(input_shape)
        self.narrow.build((None, 1000))

    def call(self, inputs):
        return self.narrow(self.wide(inputs))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.front = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        self.block, self.random = Block(), uq.MCDropout(0.5)

    def call(self, inputs):
        return self.block(self.random(self.front(inputs)))


def with_attention(kind):
    x = keras.Input((4, 3))
    h = uq.MCDropout(0.5)(x)
    h = kind()([h, h]) if kind is layers.Attention else kind(2, 2)(h, h)
    return keras.Model(x, layers.Dense(1)(h))


def in_sequence(layer):
    return keras.Sequential([keras.Input((3,)), uq.MCDropout(0.5), layer])


HIDING = {
    "layer of layers": lambda: in_sequence(Block()),
    "in a wrapper": lambda: keras.Sequential(
        [keras.Input((2, 3)), uq.MCDropout(0.5), layers.TimeDistributed(Block())]
    ),
    "in a model": lambda: in_sequence(
        keras.Sequential([keras.Input((3,)), Block(), layers.Dense(1)])
    ),
    "subclassed": Subclassed,
    "nested": lambda: in_sequence(Subclassed()),
    "attention": lambda: with_attention(layers.Attention),
    "heads": lambda: with_attention(layers.MultiHeadAttention),
}


@pytest.mark.parametrize("name", HIDING)
def test_what_may_be_wide_inside_runs_pass_by_pass(name):
    """Memory would not hold many of it."""
    model = HIDING[name]()
    x = np.ones((2, *(model.input_shape[1:] if model.built else (3,))), "float32")
    model(x)
    plan = plan_of(model, x)
    assert plan.random
    assert plan.passes_at_once(rows=1) == 1


@several_only
def test_heads_and_ensembles_run_at_once():
    def build():
        return keras.Sequential(
            [keras.Input((3,)), uq.MCDropout(0.5), uq.DistributionHead(2)]
        )

    for model in (build(), uq.Ensemble(build, members=2)):
        model(inputs())
        assert plan_of(model, inputs()).passes_at_once(rows=1) > 8


class Stubborn(layers.Layer):
    """Asks for a number, which is of many passes at once."""

    rows = 0  # More rows than these are refused.

    def call(self, inputs):
        if BACKEND == "torch":
            refused = len(inputs) > self.rows
            return inputs + (0.0 * float(ops.max(inputs)) if refused else 0.0)
        import jax

        def same(x):
            return x

        plain = jax.custom_batching.custom_vmap(same)

        @plain.def_vmap
        def refuse(axis_size, in_batched, x):
            raise NotImplementedError("one at a time")

        return plain(inputs)


@several_only
def test_a_layer_that_takes_one_pass_only():
    model = keras.Sequential(
        [keras.Input((3,)), uq.MCDropout(0.5), Stubborn(), layers.Dense(1)]
    )
    assert plan_of(model, inputs()).passes_at_once(rows=1) == 1
    assert predict(model, inputs()).epistemic_std.min() > 0


@pytest.mark.skipif(BACKEND != "torch", reason="written for PyTorch")
def test_a_layer_that_refuses_a_larger_batch(monkeypatch):
    monkeypatch.setattr(Stubborn, "rows", 10)
    model = keras.Sequential(
        [keras.Input((3,)), uq.MCDropout(0.5), Stubborn(), layers.Dense(1)]
    )
    x = inputs(rows=30)
    assert plan_of(model, x[:8]).passes_at_once(rows=30) > 8
    found = predict(model, x).samples
    one_after_the_other(monkeypatch)
    model.__dict__.pop("_uq_predict_cache")
    np.testing.assert_allclose(found, predict(model, x).samples, rtol=1e-5)


@several_only
@given(
    count=st.integers(1, 12),
    at_once=st.integers(1, 12),
)
def test_a_map_is_a_map(count, at_once):
    elements = ops.reshape(ops.arange(2.0 * count), (count, 2))
    found = vectorized_map(lambda e: [ops.sum(e), 2.0 * e], elements, at_once)
    np.testing.assert_array_equal(found[0], ops.sum(elements, axis=1))
    np.testing.assert_array_equal(found[1], 2.0 * elements)


def test_a_plan_without_sizes_runs_pass_by_pass():
    assert Plan([], hidden=True, cut=None, sizes=None).passes_at_once(rows=1) == 1
