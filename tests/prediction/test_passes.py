"""`predict` runs the passes of a model, and disturbs nothing."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import ops
from small_models import inputs
from small_models import normal_model
from small_models import predict

import keras_uq_layers as uq
from keras_uq_layers.prediction.sampler import rows_at_a_time

JAX = keras.backend.backend() == "jax"


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


def test_a_batch_has_the_rows_that_memory_holds():
    """2^22 numbers of an activation, 2^24 of the params of all passes."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1000)])
    assert rows_at_a_time(model, samples=1, params_size=2) == 2**22 // 1000
    assert rows_at_a_time(model, samples=10_000, params_size=2) == 2**24 // 20_000
    assert rows_at_a_time(model, samples=10**9, params_size=2) == 1
    small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert rows_at_a_time(small, samples=1, params_size=2) == 8192


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
    return model.__dict__["_uq_predict_cache"].samplers[-1][1]


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
    # Compiled and eager sums round apart, by the size of their terms, which is 1.
    np.testing.assert_allclose(
        prediction.samples[0], to_numpy(model(x)), rtol=1e-5, atol=1e-6
    )
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
