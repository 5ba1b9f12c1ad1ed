"""Ensembles: each member trained as if alone, one file, one mixture."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import ops

import keras_uq_layers as uq

NLL = uq.losses.NegativeLogLikelihood


def build():
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(5, "tanh"), uq.DistributionHead(1)]
    )


def build_with_losses():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(5, kernel_regularizer="l2"),
            uq.ConcreteDropout(keras.layers.Dense(4), kl_weight=0.1),
            keras.layers.ActivityRegularization(l2=0.1),
            uq.DistributionHead(1),
        ]
    )


def data(n=24):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype("float32")
    return x, x[:, 0] + 0.1 * rng.normal(size=n).astype("float32")


def test_output_stacks_the_members():
    ensemble, (x, _) = uq.Ensemble(build, 3), data()
    output = to_numpy(ensemble(x))
    assert output.shape == (24, 3, 2)
    for m, member in enumerate(ensemble.members):
        np.testing.assert_allclose(output[:, m], to_numpy(member(x)), rtol=1e-6)
    assert ensemble.compute_output_shape((None, 3)) == (None, 3, 2)
    assert np.abs(output[:, 0] - output[:, 1]).max() > 1e-3


@pytest.mark.parametrize(
    ("weights", "clip"),
    [("none", {}), ("rows", {"clipnorm": 0.1}), ("members", {"clipvalue": 0.02})],
)
def test_one_fit_trains_each_member_as_if_alone(weights, clip):
    """With plain SGD and with clipping, which see the size of a gradient."""
    x, y = data()
    ensemble = uq.Ensemble(build, 3)
    twins = [build() for _ in range(3)]
    for twin, member in zip(twins, ensemble.members, strict=True):
        twin.set_weights(member.get_weights())
    sample_weight = {
        "none": None,
        "rows": np.random.default_rng(1).uniform(size=24).astype("float32"),
        "members": uq.bootstrap_weights(24, 3, seed=1),
    }[weights]
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    ensemble.compile(keras.optimizers.SGD(0.1, **clip), loss=NLL())
    ensemble.fit(x, y, sample_weight=sample_weight, **options)
    for m, twin in enumerate(twins):
        twin.compile(keras.optimizers.SGD(0.1, **clip), loss=NLL())
        weight = sample_weight[:, m] if weights == "members" else sample_weight
        twin.fit(x, y, sample_weight=weight, **options)
        for a, b in zip(
            twin.get_weights(), ensemble.members[m].get_weights(), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_loss_is_the_mean_over_members_with_what_they_add():
    x, y = data()
    ensemble = uq.Ensemble(build_with_losses, 2)
    for member in ensemble.members:  # no noise, so that both sides are equal
        member.layers[1].rate_logit.assign(-30.0)
    ensemble.compile("sgd", loss=NLL(), metrics=[uq.metrics.NegativeLogLikelihood()])
    found = ensemble.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    losses, nlls = [], []
    for member in ensemble.members:
        nll = float(NLL()(y, member(x)))
        nlls.append(nll)
        losses.append(nll + sum(float(loss) for loss in member.losses))
    assert len(ensemble.members[0].losses) == 3
    np.testing.assert_allclose(found["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(found["nll"], np.mean(nlls), rtol=1e-5)


def test_loss_in_fit_contains_what_members_add_once():
    """The logged training loss, compiled: on JAX it takes another way."""
    x, y = data()
    ensemble = uq.Ensemble(build_with_losses, 2)
    for member in ensemble.members:
        member.layers[1].rate_logit.assign(-30.0)
    expected = np.mean(
        [
            float(NLL()(y, m(x))) + sum(float(loss) for loss in m.losses)
            for m in ensemble.members
        ]
    )
    ensemble.compile(keras.optimizers.SGD(0.0), loss=NLL())
    history = ensemble.fit(x, y, batch_size=24, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)


def test_prediction_is_the_mixture_of_the_members():
    ensemble, (x, _) = uq.Ensemble(build, 4), data()
    prediction = uq.predict(ensemble, x, verbose=0)
    assert prediction.samples.shape == (4, 24, 2)
    params = to_numpy(ensemble(x))
    np.testing.assert_allclose(prediction.mean, params[:, :, :1].mean(axis=1), 1e-5)
    np.testing.assert_allclose(
        prediction.epistemic_std, params[:, :, :1].std(axis=1), rtol=1e-4
    )


def test_random_members_give_all_their_passes():
    x, _ = data()
    ensemble = uq.Ensemble(build_with_losses, 2)
    options = {"samples": 5, "seed": 0, "verbose": 0}
    prediction = uq.predict(ensemble, x, **options)
    assert prediction.samples.shape == (10, 24, 2)
    again = uq.predict(ensemble, x, batch_size=24, **options)
    np.testing.assert_array_equal(prediction.samples, again.samples)


def test_member_axis_is_not_guessed_from_shapes():
    """A plain model with T = M steps is no ensemble."""
    model = keras.Sequential([keras.Input((3, 4)), uq.DistributionHead(1)])
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype("float32")
    assert uq.predict(model, x, verbose=0).mean.shape == (6, 3, 1)
    ensemble = uq.Ensemble.from_models([model])
    assert uq.predict(ensemble, x, verbose=0).mean.shape == (6, 3, 1)


def test_masks_reach_the_loss_of_each_member():
    def build():
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Embedding(5, 3, mask_zero=True),
                uq.DistributionHead(1),
            ]
        )

    tokens = np.array([[1, 2, 0, 0], [3, 1, 2, 4]])
    y = np.random.default_rng(0).normal(size=(2, 4, 1)).astype("float32")
    ensemble = uq.Ensemble(build, 2)
    metric = uq.metrics.NegativeLogLikelihood()
    ensemble.compile("sgd", loss=NLL(), weighted_metrics=[metric])
    expected = np.mean([float(NLL()(y, m(tokens))) for m in ensemble.members])
    y[0, 2:] = np.nan  # masked out
    found = ensemble.evaluate(tokens, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["nll"], expected, rtol=1e-5)


def test_reloads_in_a_fresh_process_and_goes_on_training(tmp_path):
    x, y = data()
    ensemble = uq.Ensemble(build_with_losses, 3, name="three")
    ensemble.compile("adam", loss=NLL())
    ensemble.fit(x, y, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    prediction = uq.predict(ensemble, x, samples=4, seed=0, verbose=0)
    np.savez(tmp_path / "data.npz", x=x, y=y, samples=prediction.samples)
    script = (
        "import sys, keras, numpy as np, keras_uq_layers as uq\n"
        "model = keras.saving.load_model(sys.argv[1] + '/ensemble.keras')\n"
        "data = np.load(sys.argv[1] + '/data.npz')\n"
        "p = uq.predict(model, data['x'], samples=4, seed=0, verbose=0)\n"
        "np.testing.assert_allclose(p.samples, data['samples'], rtol=1e-4, atol=1e-5)\n"
        "assert type(model).__name__ == 'Ensemble' and model.name == 'three'\n"
        "model.fit(data['x'], data['y'], verbose=0)\n"
        "print('good')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout


def test_from_models_trained_apart():
    x, y = data()
    models = [build() for _ in range(2)]
    for model in models:
        model.compile("adam", loss=NLL())
        model.fit(x, y, verbose=0)
    ensemble = uq.Ensemble.from_models(models)
    assert ensemble.members[0] is models[0]
    np.testing.assert_allclose(
        to_numpy(ensemble(x))[:, 1], to_numpy(models[1](x)), rtol=1e-6
    )


def test_several_inputs():
    def build():
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        joined = keras.layers.Concatenate()([a, b])
        return keras.Model({"a": a, "b": b}, uq.DistributionHead(1)(joined))

    x, y = data()
    ensemble = uq.Ensemble(build, 2)
    ensemble.compile("adam", loss=NLL())
    ensemble.fit({"a": x, "b": x[:, :2]}, y, verbose=0)
    assert uq.predict(ensemble, {"a": x, "b": x[:, :2]}, verbose=0).mean.shape == (
        24,
        1,
    )


def test_bootstrap_weights_are_resamples():
    weights = uq.bootstrap_weights(500, members=4, seed=3)
    assert weights.shape == (500, 4)
    assert (weights.sum(axis=0) == 500).all()
    assert (weights == np.round(weights)).all()
    np.testing.assert_allclose((weights == 0).mean(), np.exp(-1), atol=0.03)
    np.testing.assert_array_equal(weights, uq.bootstrap_weights(500, 4, seed=3))
    assert (weights != uq.bootstrap_weights(500, 4, seed=4)).any()


def test_errors():
    shared = build()
    with pytest.raises(ValueError, match="must not share layers"):
        uq.Ensemble(lambda: shared, 2)
    with pytest.raises(ValueError, match="`members` must be a positive integer"):
        uq.Ensemble(build, 0)
    with pytest.raises(ValueError, match="must be Keras models"):
        uq.Ensemble(lambda: keras.layers.Dense(2), 2)
    with pytest.raises(ValueError, match="`models` must be a sequence"):
        uq.Ensemble.from_models([])
    x, y = data()
    ensemble = uq.Ensemble(build, 3)
    ensemble.compile("sgd", loss=NLL())
    with pytest.raises(ValueError, match=r"\(N, 3, ...\)"):
        ensemble.fit(x, y, sample_weight=np.ones((24, 2)), verbose=0)
    with pytest.raises(ValueError, match="`n` must be a positive integer"):
        uq.bootstrap_weights(0, 2)
    other = keras.Sequential([keras.Input((3,)), uq.DistributionHead(2)])
    with pytest.raises(ValueError, match="outputs of one shape"):
        uq.Ensemble.from_models([build(), other])(ops.ones((2, 3)))


def seeded(seed, built=True):
    """A builder with a fixed seed, of a model that is built at once or not."""
    kernel = keras.initializers.GlorotUniform(seed=seed)
    layers = [uq.DistributionHead(1, kernel_initializer=kernel)]
    return keras.Sequential([keras.Input((3,)), *layers] if built else layers)


def warned(act):
    """The messages of the user warnings. `pytest.warns` would raise TensorFlow's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        act()
    return [str(w.message) for w in caught if w.category is UserWarning]


def test_members_that_would_stay_equal_are_warned_of():
    (message,) = warned(lambda: uq.Ensemble(lambda: seeded(1), 2))
    assert message.startswith("Members [0, 1] of this ensemble start from equal")
    seeds = iter([1, 2, 1])  # any two of them, not only the first two
    (message,) = warned(lambda: uq.Ensemble(lambda: seeded(next(seeds)), 3))
    assert message.startswith("Members [0, 2]")


def test_twins_that_are_built_later_are_warned_of_then():
    x, y = data()
    for first_use in (
        lambda ensemble: ensemble(x),
        lambda ensemble: ensemble.build((None, 3)),
        lambda ensemble: ensemble.fit(x, y, verbose=0),
    ):
        ensemble = uq.Ensemble(lambda: seeded(1, built=False), 2)
        ensemble.compile("sgd", loss=NLL())
        (message,) = warned(lambda act=first_use, it=ensemble: act(it))
        assert message.startswith("Members [0, 1]")
        assert not warned(lambda it=ensemble: it.fit(x, y, verbose=0))


def test_a_saved_ensemble_does_not_warn_of_its_seeds_again(tmp_path):
    made = []
    assert warned(lambda: made.append(uq.Ensemble(lambda: seeded(1), 2)))
    made[0].build((None, 3))
    made[0].save(tmp_path / "twins.keras")
    assert not warned(lambda: keras.saving.load_model(tmp_path / "twins.keras"))


def test_a_model_in_place_of_a_builder_is_refused_by_name():
    message = r"`builder` must be a function .*clone_model\(model\)"
    for wrong in (build(), keras.layers.Dense(2), 3):
        with pytest.raises(ValueError, match=message):
            uq.Ensemble(wrong, 2)
    model = build()
    ensemble = uq.Ensemble(lambda: keras.models.clone_model(model), 2)
    kernels = [member.weights[0] for member in ensemble.members]
    assert np.abs(to_numpy(kernels[0]) - to_numpy(kernels[1])).max() > 0.01


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_a_served_ensemble_answers_with_its_mixture(family, tmp_path):
    def member():
        head = uq.DistributionHead(1, family=family, kernel_initializer="he_normal")
        return keras.Sequential([keras.Input((3,)), head])

    ensemble, (x, _) = uq.Ensemble(member, 3), data(4)
    served = uq.serving_model(ensemble, level=0.8)
    served.save(tmp_path / "served.keras")
    served = keras.saving.load_model(tmp_path / "served.keras")
    answer = served.predict(x, verbose=0)
    prediction = uq.predict(ensemble, x, verbose=0)
    lower, upper = prediction.interval(0.8)
    expected = {
        "mean": prediction.mean,
        "std": prediction.std,
        "lower": lower,
        "upper": upper,
    }
    assert set(answer) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-5)
    assert prediction.epistemic_std.min() > 1e-3  # the members do differ


def test_a_served_ensemble_of_quantiles_has_an_interval_alone():
    family = uq.families.Quantiles([0.1, 0.5, 0.9])
    ensemble = uq.Ensemble(
        lambda: keras.Sequential([keras.Input((3,)), uq.DistributionHead(1, family)]), 2
    )
    x, _ = data()
    answer = uq.serving_model(ensemble, level=0.8).predict(x, verbose=0)
    assert set(answer) == {"lower", "upper"}
    lower, upper = uq.predict(ensemble, x, verbose=0).interval(0.8)
    np.testing.assert_allclose(answer["lower"], lower, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["upper"], upper, rtol=1e-4, atol=1e-5)


def test_an_unbuilt_ensemble_is_not_served():
    with pytest.raises(ValueError, match=r"must be a built Sequential .* `Ensemble`"):
        uq.serving_model(uq.Ensemble(lambda: seeded(None, built=False), 2))


def test_members_with_several_outputs():
    x = keras.Input((3,))
    member = keras.Model(x, [keras.layers.Dense(1)(x), keras.layers.Dense(1)(x)])
    with pytest.raises(ValueError, match="must have one output each"):
        uq.Ensemble.from_models([member])(np.ones((2, 3)))
