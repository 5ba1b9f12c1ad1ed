"""`predict` and `Prediction`: a mixture over passes, and nothing disturbed."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from scipy import stats

import keras_uq_layers as uq

JAX = keras.backend.backend() == "jax"
EXACT = 1e-4 if JAX else 1e-9  # JAX has no float64 unless told so


def normal_model(random=True, width=6, **head):
    layers = [keras.layers.Dense(width, "tanh"), keras.layers.Dropout(0.5)]
    if random:
        layers.append(uq.DenseVariational(width, "tanh", kl_weight=0.01, seed=5))
    model = keras.Sequential([*layers, uq.DistributionHead(1, **head)])
    model.build((None, 3))
    return model


def inputs(rows=37):
    return np.random.default_rng(1).normal(size=(rows, 3)).astype("float32")


def predict(model, x, **options):
    options = {"samples": 8, "seed": 0, "verbose": 0, **options}
    return uq.predict(model, x, **options)


def normal_mixture(passes=30, rows=5, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    loc = spread * rng.normal(size=(passes, rows, 1))
    return uq.Prediction(
        np.concatenate([loc, rng.uniform(0.2, 1.5, loc.shape)], axis=-1), "normal"
    )


# The mixture


def test_variance_is_split_by_its_definition():
    prediction = normal_mixture()
    loc, scale = prediction.samples[..., :1], prediction.samples[..., 1:]
    np.testing.assert_allclose(prediction.mean, loc.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(
        prediction.aleatoric_std**2, (scale**2).mean(axis=0), rtol=EXACT
    )
    np.testing.assert_allclose(
        prediction.epistemic_std**2, loc.var(axis=0), rtol=10 * EXACT
    )
    # E[Y^2] - E[Y]^2, the variance of the mixture without the law.
    second = (loc**2 + scale**2).mean(axis=0)
    np.testing.assert_allclose(
        prediction.std**2, second - loc.mean(axis=0) ** 2, rtol=100 * EXACT
    )


def test_moments_and_quantiles_against_brute_force():
    prediction = normal_mixture(passes=10, rows=3, spread=3.0)
    rng = np.random.default_rng(7)
    n = 200_000
    loc, scale = prediction.samples[..., :1], prediction.samples[..., 1:]
    draws = rng.normal(loc, scale, size=(n, *loc.shape)).reshape(-1, 3, 1)
    total = len(draws)
    error = prediction.std / np.sqrt(total)
    assert (np.abs(draws.mean(axis=0) - prediction.mean) < 5 * error).all()
    for q in (0.01, 0.3, 0.5, 0.95):
        found = prediction.quantile(q)
        share = (draws <= found).mean(axis=0)
        # Draws are stratified by component, so the binomial error is a bound.
        np.testing.assert_allclose(share, q, atol=5 * np.sqrt(q * (1 - q) / total))
    # A normal with the same moments would be far off: the mixture has modes.
    matched = prediction.mean + prediction.std * stats.norm.ppf(0.95)
    assert np.abs(matched - prediction.quantile(0.95)).max() > 0.1


@given(
    seed=st.integers(0, 10_000),
    q=st.floats(1e-6, 1 - 1e-6),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_quantile_inverts_the_cdf(seed, q, spread):
    prediction = normal_mixture(passes=4, rows=2, seed=seed, spread=spread)
    value = prediction.quantile(q)
    np.testing.assert_allclose(prediction.cdf(value), q, rtol=0, atol=1e3 * EXACT)


def test_quantile_against_scipy_to_the_last_digits():
    from scipy.optimize import brentq

    prediction = normal_mixture(passes=7, rows=4, spread=2.0)
    loc, scale = prediction.samples[:, :, 0], prediction.samples[:, :, 1]
    for q in (0.001, 0.25, 0.9):
        expected = [
            brentq(
                lambda y, i=i, q=q: (
                    stats.norm.cdf(y, loc[:, i], scale[:, i]).mean() - q
                ),
                -50,
                50,
                xtol=1e-13,
            )
            for i in range(4)
        ]
        np.testing.assert_allclose(
            prediction.quantile(q)[:, 0], expected, rtol=EXACT, atol=EXACT
        )


def test_one_pass_is_the_distribution_itself():
    params = np.array([[[1.0, -1.0, 2.0, 0.5]]])  # two outputs
    prediction = uq.Prediction(params, "normal")
    lower, upper = prediction.interval(0.9)
    np.testing.assert_allclose(
        [lower[0], upper[0]],
        stats.norm.ppf([[0.05], [0.95]], [1.0, -1.0], [2.0, 0.5]),
        rtol=1e-5,
    )
    assert (prediction.epistemic_std == 0).all()


def test_quantiles_of_a_sequence_and_of_time_series():
    samples = np.abs(np.random.default_rng(0).normal(size=(6, 4, 3, 4))) + 0.1
    prediction = uq.Prediction(samples, "normal")
    both = prediction.quantile([0.2, 0.8])
    assert both.shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(both[1], prediction.quantile(0.8))
    assert (both[0] < both[1]).all()
    assert prediction.log_prob(np.ones((4, 3, 2))).shape == (4, 3)


def test_quantile_of_a_jump():
    """A mixture of Bernoulli is one: the quantile is 0 or 1."""
    logits = np.array([[[-3.0]], [[0.0]], [[2.0]]])
    prediction = uq.ClassPrediction(logits, "bernoulli")
    p = prediction.mean[0, 0]
    np.testing.assert_allclose(prediction.quantile(1 - p - 0.01), 0.0, atol=1e-9)
    np.testing.assert_allclose(prediction.quantile(1 - p + 0.01), 1.0, atol=1e-9)


def test_log_prob_is_that_of_the_mixture_jointly_over_outputs():
    rng = np.random.default_rng(0)
    samples = np.concatenate(
        [rng.normal(size=(9, 5, 2)), rng.uniform(0.5, 2, size=(9, 5, 2))], axis=-1
    )
    y = rng.normal(size=(5, 2))
    loc, scale = samples[..., :2], samples[..., 2:]
    joint = stats.norm.pdf(y, loc, scale).prod(axis=-1)
    np.testing.assert_allclose(
        uq.Prediction(samples, "normal").log_prob(y),
        np.log(joint.mean(axis=0)),
        rtol=1e-4,
    )


def test_log_prob_of_a_far_point_does_not_underflow():
    far = normal_mixture(rows=1).log_prob(np.array([1e3]))
    assert np.isfinite(far).all()
    assert (far < -1e5).all()


@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.0, 0.3, 10.0]),
    y=st.floats(-30, 30),
)
def test_crps_is_the_integral_of_the_squared_difference(seed, spread, y):
    prediction = normal_mixture(passes=4, rows=2, seed=seed, spread=spread)
    loc, scale = prediction.samples[:, 0, 0], prediction.samples[:, 0, 1]
    # Every scale is 0.2 at the least: the trapezoids are exact to 1e-7.
    lower, upper = min(y, loc.min() - 12), max(y, loc.max() + 12)
    total = 0.0
    for start, end, reached in [(lower, y, 0.0), (y, upper, 1.0)]:
        grid = np.linspace(start, end, 20_001)
        cdf = stats.norm.cdf(grid, loc[:, None], scale[:, None]).mean(axis=0)
        total += np.trapezoid((cdf - reached) ** 2, grid)
    np.testing.assert_allclose(
        prediction.crps([y, y])[0, 0],
        total,
        rtol=1e-3,
        atol=1e-5 * prediction.std[0, 0],
    )


def test_crps_of_one_pass_is_that_of_the_family():
    params = np.array([[[1.0, 0.5, 2.0, 1.5], [0.0, 1.0, 1.0, 3.0]]])  # two outputs
    y = np.array([[0.3, 2.0], [1.0, -4.0]])
    for family in ("normal", "laplace"):
        expected = uq.families.get(family).crps(y, params[0])
        found = uq.Prediction(params, family).crps(y)
        assert found.shape == (2, 2)
        np.testing.assert_allclose(found, to_numpy(expected), rtol=1e-4)


def test_crps_in_slices_is_the_same(monkeypatch):
    samples = np.abs(np.random.default_rng(0).normal(size=(6, 40, 3, 4))) + 0.1
    y = np.ones((40, 3, 2))
    whole = uq.Prediction(samples, "normal").crps(y)
    assert whole.shape == y.shape
    monkeypatch.setattr("keras_uq_layers.prediction.mixture._CHUNK", 200)
    np.testing.assert_allclose(
        uq.Prediction(samples, "normal").crps(y), whole, rtol=1e-6
    )


def test_classes_split_entropy():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(11, 6, 4))
    prediction = uq.ClassPrediction(logits, "categorical")
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    total = stats.entropy(p.mean(axis=0), axis=-1)
    expected = stats.entropy(p, axis=-1).mean(axis=0)
    np.testing.assert_allclose(prediction.mean, p.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(prediction.entropy, total, rtol=1e-5)
    np.testing.assert_allclose(prediction.expected_entropy, expected, rtol=1e-5)
    np.testing.assert_allclose(
        prediction.mutual_information, total - expected, rtol=1e-4, atol=1e-6
    )
    labels = rng.integers(0, 4, 6)
    np.testing.assert_allclose(
        prediction.log_prob(labels), np.log(p.mean(axis=0)[np.arange(6), labels]), 1e-5
    )
    assert prediction.log_prob(np.full(6, 4)).max() == -np.inf


def test_agreeing_passes_have_no_mutual_information():
    logits = np.repeat(np.random.default_rng(0).normal(size=(1, 50, 3)), 5, axis=0)
    for family in ("categorical", "bernoulli"):
        prediction = uq.ClassPrediction(logits, family)
        assert (prediction.mutual_information >= 0).all()
        assert prediction.mutual_information.max() < 1e-6


# Running the model


def test_same_seed_same_result_other_seed_another():
    model, x = normal_model(), inputs()
    a, b, c = (predict(model, x, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.samples, b.samples)
    assert np.abs(a.samples - c.samples).max() > 1e-3
    d, e = predict(model, x, seed=None), predict(model, x, seed=None)
    assert np.abs(d.samples - e.samples).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 5, 36, 64])
def test_batch_size_does_not_matter_for_random_weights(batch_size):
    model, x = normal_model(), inputs()
    np.testing.assert_allclose(
        predict(model, x, batch_size=batch_size).samples,
        predict(model, x).samples,
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_longer_run_starts_like_a_shorter_one():
    model, x = normal_model(), inputs()
    np.testing.assert_allclose(
        predict(model, x, samples=9).samples[:4],
        predict(model, x, samples=4).samples,
        rtol=1e-6,
        atol=1e-6,
    )


def test_each_pass_is_the_model_with_other_weights():
    """One pass repeated by hand: seed states set, model called."""
    model, x = normal_model(), inputs()
    prediction = predict(model, x)
    # One column for each generator from which a pass draws.
    keys = np.random.default_rng(0).integers(2**31 - 1, size=(8, 1))
    generator = model.layers[2].seed_generators[0]
    generator.state.assign(np.array([keys[5, 0], 0]).astype(generator.state.dtype))
    np.testing.assert_allclose(
        prediction.samples[5], to_numpy(model(x)), rtol=1e-4, atol=1e-6
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = normal_model()

    def call(self, inputs):
        return self.inner(inputs)


class Counting(keras.layers.Layer):
    """Changes its own state at each call, even at inference."""

    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        self.add_loss(0.0 * ops.sum(inputs))
        return inputs


@pytest.mark.parametrize("kind", ["sequential", "subclassed", "counting"])
def test_the_model_stays_as_it_was(kind):
    model = Subclassed() if kind == "subclassed" else normal_model()
    if kind == "counting":
        model = keras.Sequential([Counting(), model])
    x = inputs()
    model(x)
    before = [to_numpy(v) for v in model.variables]
    predict(model, x)
    predict(model, x, batch_size=10, keep_samples=False)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value, variable.path)


def test_global_seed_is_as_before_too():
    class Noise(keras.layers.Layer):
        def call(self, inputs):
            return inputs + keras.random.normal(ops.shape(inputs))

    if JAX:
        pytest.skip("Keras does not trace unseeded noise on JAX")
    model = keras.Sequential([Noise(), uq.DistributionHead(1)])
    x = inputs()
    model(x)
    keras.utils.set_random_seed(1)
    expected = to_numpy(keras.random.normal((3,)))
    keras.utils.set_random_seed(1)
    a = predict(model, x, seed=2)
    np.testing.assert_array_equal(to_numpy(keras.random.normal((3,))), expected)
    np.testing.assert_array_equal(a.samples, predict(model, x, seed=2).samples)
    assert (a.epistemic_std > 0).all()


def test_saved_model_does_not_contain_the_sampler(tmp_path):
    model, x = normal_model(), inputs()
    model.save(tmp_path / "before.keras")
    predict(model, x)
    model.save(tmp_path / "after.keras")
    sizes = [os.path.getsize(tmp_path / f"{n}.keras") for n in ("before", "after")]
    assert sizes[0] == sizes[1]
    loaded = keras.saving.load_model(tmp_path / "after.keras")
    np.testing.assert_allclose(
        predict(loaded, x).samples, predict(model, x).samples, rtol=1e-6
    )


def sampler_of(model):
    return next(reversed(model.__dict__["_uq_predict_cache"].samplers.values()))


def test_deterministic_part_is_cut_off():
    model = normal_model()
    predict(model, inputs())
    head, _ = sampler_of(model).plan.cut
    assert [layer.name for layer in head.layers[1:]] == [
        layer.name for layer in model.layers[:2]
    ]


def test_cut_through_branches_and_shared_layers():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    shared = keras.layers.Dense(4, "tanh")
    left, right = shared(keras.layers.Dense(5)(a)), keras.layers.Dense(5)(b)
    noisy = uq.MCDropout(0.4, seed=1)(left)
    # After the noise the shared layer runs again, in every pass.
    both = keras.layers.Concatenate()([shared(keras.layers.Dense(5)(noisy)), right])
    model = keras.Model({"a": a, "b": b}, uq.DistributionHead(1)(both))
    x = {"a": inputs(), "b": inputs()[:, :2]}
    prediction = predict(model, x, samples=400)
    head, _ = sampler_of(model).plan.cut
    assert len(head.outputs) == 2
    draws = np.stack([to_numpy(model(x, training=False)) for _ in range(400)])
    error = draws.std(axis=0) / np.sqrt(200)
    gap = np.abs(prediction.samples.mean(axis=0) - draws.mean(axis=0))
    assert (gap < 5 * error + 1e-6).all()


def test_mask_passes_the_cut():
    tokens = np.array([[1, 2, 0, 0], [3, 1, 2, 4]])
    model = keras.Sequential(
        [
            keras.layers.Embedding(5, 3, mask_zero=True),
            uq.MCDropout(0.5),
            keras.layers.GlobalAveragePooling1D(),
            uq.DistributionHead(1),
        ]
    )
    model(tokens)
    a = predict(model, tokens, samples=3)
    model.layers[0].embeddings.assign(
        ops.concatenate([ops.full((1, 3), 100.0), model.layers[0].embeddings[1:]])
    )
    b = predict(model, tokens, samples=3)
    np.testing.assert_allclose(a.samples, b.samples, rtol=1e-5)  # row 0 is masked


def test_model_without_randomness_runs_once():
    model, x = normal_model(random=False), inputs()
    prediction = predict(model, x, samples=None)
    assert prediction.samples.shape[0] == 1
    np.testing.assert_allclose(prediction.samples[0], to_numpy(model(x)), rtol=1e-5)
    assert (prediction.epistemic_std == 0).all()


def test_weights_changed_by_training_are_seen():
    model, x = normal_model(), inputs()
    before = predict(model, x)
    model.compile("sgd", loss=uq.losses.NegativeLogLikelihood())
    model.fit(x, x[:, 0], verbose=0)
    assert np.abs(predict(model, x).samples - before.samples).max() > 1e-4


def test_noise_per_example_has_its_distribution_at_any_batch_size():
    rate, passes = 0.25, 300
    model = keras.Sequential([uq.MCDropout(rate), uq.ConstantVarianceHead(1)])
    model.build((None, 1))
    model.layers[1].dense.kernel.assign([[1.0]])
    x = np.ones((40, 1), "float32")
    expected = np.sqrt(rate / (1 - rate))  # of inputs that are 1
    for batch_size in (7, 40):
        prediction = predict(model, x, samples=passes, batch_size=batch_size)
        np.testing.assert_allclose(prediction.epistemic_std, expected, rtol=0.3)
        np.testing.assert_allclose(prediction.mean.mean(), 1.0, atol=0.05)


def test_without_samples_the_moments_are_the_same():
    model, x = normal_model(), inputs()
    kept, small = predict(model, x), predict(model, x, keep_samples=False)
    for name in ("mean", "aleatoric_std", "epistemic_std", "std"):
        np.testing.assert_allclose(
            getattr(small, name), getattr(kept, name), rtol=1e-4, atol=1e-6
        )
    assert type(small) is uq.Moments
    assert not hasattr(small, "quantile")
    assert small[:3].std.shape == (3, 1)


def test_without_samples_the_entropies_are_the_same():
    model = keras.Sequential([uq.MCDropout(0.3), keras.layers.Dense(4)])
    x = inputs()
    model(x)
    kept, small = (
        predict(model, x, family="categorical", keep_samples=k) for k in (True, False)
    )
    np.testing.assert_allclose(
        small.mutual_information, kept.mutual_information, atol=1e-5
    )
    assert type(small) is uq.ClassMoments
    np.testing.assert_array_equal(small[2:4].entropy, small.entropy[2:4])
    assert kept.mutual_information.max() > 1e-3


@pytest.mark.parametrize("kind", ["generator", "dataset", "dataset_xy", "pydataset"])
def test_other_kinds_of_data(kind):
    model, x = normal_model(), inputs(20)
    expected = predict(model, x).samples
    batches = [x[:8], x[8:16], x[16:]]

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return (batches[i],)

    options = {}
    if kind == "generator":
        data = ((batch,) for batch in batches)
        options["steps"] = 3
    elif kind == "pydataset":
        data = Data()
    else:
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(
            (x, x[:, 0]) if kind == "dataset_xy" else x
        ).batch(8)
    found = predict(model, data, **options).samples
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_callbacks_and_progress_bar_are_those_of_keras(capsys):
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            seen.append(batch)

    predict(normal_model(), inputs(), batch_size=10, callbacks=[Seen()], verbose=1)
    assert seen == [0, 1, 2, 3]
    assert "4/4" in capsys.readouterr().out


def test_unbuilt_models_are_built_from_arrays():
    sequential = keras.Sequential([uq.MCDropout(0.5, seed=1), uq.DistributionHead(1)])
    state = to_numpy(sequential.layers[0].seed_generator.state)
    assert predict(sequential, inputs()).mean.shape == (37, 1)
    np.testing.assert_array_equal(
        to_numpy(sequential.layers[0].seed_generator.state), state
    )
    assert predict(Subclassed(), inputs()).mean.shape == (37, 1)
    unbuilt = keras.Sequential([uq.DistributionHead(1)])
    data = ((inputs(),) for _ in range(2))
    assert predict(unbuilt, data, samples=None, steps=2).mean.shape == (74, 1)


def test_mixed_precision_and_half_precision_inputs():
    keras.config.set_dtype_policy("mixed_float16")
    model = normal_model()
    prediction = predict(model, inputs().astype("float16"))
    assert np.isfinite(prediction.std).all()


# Errors and views


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
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        predict(lambda x: x, inputs())
    odd = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`family` must fit the output of `model`"):
        predict(odd, inputs(), family="normal")
    a = keras.Input((3,))
    two = keras.Model(a, [keras.layers.Dense(2)(a), keras.layers.Dense(2)(a)])
    with pytest.raises(ValueError, match="`model` must have one output"):
        predict(two, inputs())


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, float("nan")])
def test_levels_outside_the_unit_interval(level):
    prediction = normal_mixture()
    with pytest.raises(ValueError, match="`level` must be"):
        prediction.interval(level)
    with pytest.raises(ValueError, match=r"`q` must be inside \(0, 1\)"):
        prediction.quantile([0.5, level])


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


def test_same_seed_in_another_process(tmp_path):
    model, x = normal_model(), inputs()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    script = (
        "import json, sys, keras, numpy as np, keras_uq_layers as uq\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "x = np.load(sys.argv[1] + '/x.npy')\n"
        "p = uq.predict(model, x, samples=8, seed=0, verbose=0)\n"
        "print(json.dumps(p.epistemic_std.tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        json.loads(done.stdout), predict(model, x).epistemic_std, rtol=1e-4
    )
