"""Priors: closed forms, Monte Carlo, and a scale that is learned."""

import keras
import numpy as np
import pytest
import scipy.stats
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from random_weights import randomize

import keras_uq_layers as uq
from keras_uq_layers.numerics import normal_kl
from keras_uq_layers.numerics import positive_inverse


@given(
    loc=st.floats(-1e3, 1e3),
    log_scale=st.floats(-8, 3),
    log_prior=st.floats(-3, 3),
)
def test_normal_prior_is_the_library_s_kl(loc, log_scale, log_prior):
    loc = np.full(3, loc, "float32")
    scale = np.full(3, 10.0**log_scale, "float32")
    prior = uq.priors.NormalPrior(10.0**log_prior)
    expected = 3 * float(normal_kl(loc, scale, 0.0, 10.0**log_prior)[0])
    locs = {"kernel": ops.convert_to_tensor(loc)}
    got = float(prior.kl(locs, ops.convert_to_tensor(scale), None))
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_kl_is_zero_at_the_prior_however_many_weights():
    prior = uq.priors.NormalPrior(1.0)
    ones = ops.ones((1_000_000,))
    assert float(prior.kl({"kernel": 0.0 * ones}, ones, None)) == 0.0


def test_scale_mixture_kl_is_unbiased():
    """The mean over many weights, each with a draw of its own."""
    prior = uq.priors.ScaleMixturePrior(0.3, 1.0, 0.1)
    loc, scale, count = 0.4, 0.3, 100_000
    w = np.linspace(loc - 9 * scale, loc + 9 * scale, 20001)
    q = scipy.stats.norm(loc, scale)
    norm = scipy.stats.norm
    p = np.log(0.3 * norm(0, 1.0).pdf(w) + 0.7 * norm(0, 0.1).pdf(w))
    expected = np.trapezoid(q.pdf(w) * (q.logpdf(w) - p), w)
    draws = np.random.default_rng(0).normal(loc, scale, size=count)
    locs, scales, draw = (
        ops.convert_to_tensor(values, "float32")
        for values in (np.full(count, loc), np.full(count, scale), draws)
    )
    kl = prior.kl({"kernel": locs}, scales, {"kernel": draw})
    log_prior = np.log(0.3 * norm(0, 1.0).pdf(draws) + 0.7 * norm(0, 0.1).pdf(draws))
    assert abs(float(kl) / count - expected) < 4 * log_prior.std() / np.sqrt(count)


def test_a_kl_without_a_closed_form_needs_draws():
    ones = ops.ones((3,))
    with pytest.raises(ValueError, match=r"`draws` must be given.*no closed form"):
        uq.priors.ScaleMixturePrior().kl({"kernel": ones}, ones, None)


def test_learned_prior_scale_reaches_the_empirical_bayes_optimum():
    """With a frozen posterior the best scale is the root of E w^2."""
    prior = uq.priors.NormalPrior(1.0, trainable_scale=True)
    layer = uq.DenseVariational(4, kl_weight=1.0, prior=prior)
    layer.build((None, 3))
    randomize(layer, scale=0.3)
    moments = [
        layer.posterior.mean[k] ** 2 + layer.posterior.scale[k] ** 2
        for k in ("kernel", "bias")
    ]
    best = np.sqrt(np.concatenate([m.ravel() for m in moments]).mean())
    prior = layer.prior
    target = ops.convert_to_tensor(best, "float32")

    values = []
    for factor in (0.9, 1.0, 1.1):
        prior._raw_scale.assign(positive_inverse(factor * target, 1e-6))
        assert float(prior.scale) == pytest.approx(factor * best, rel=1e-4)
        values.append(float(layer.kl()))
    assert values[1] < min(values[0], values[2])


# The centre of a prior


PRIORS = {
    "normal": lambda **options: uq.priors.NormalPrior(0.7, **options),
    "scale_mixture": lambda **options: uq.priors.ScaleMixturePrior(0.3, **options),
}
SAMPLE = np.random.default_rng(3)
MEANS = SAMPLE.normal(size=(4, 3)).astype("float32")
SCALES = np.exp(SAMPLE.normal(size=(4, 3))).astype("float32")
DRAWS = (MEANS + SCALES * SAMPLE.normal(size=(4, 3))).astype("float32")
CENTERS = SAMPLE.normal(size=(4, 3)).astype("float32")


def kl_of(prior, loc=MEANS, scale=SCALES, draw=DRAWS):
    loc, scale, draw = map(ops.convert_to_tensor, (loc, scale, draw))
    return float(prior.kl({"kernel": loc}, ops.reshape(scale, (-1,)), {"kernel": draw}))


def test_every_prior_has_a_test_of_its_centre():
    classes = {
        getattr(uq.priors, name).name
        for name in uq.priors.__all__
        if isinstance(getattr(uq.priors, name), type)
    }
    assert classes - {""} == set(PRIORS)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("loc", [0.4, CENTERS], ids=["number", "array"])
def test_moving_prior_and_posterior_alike_changes_nothing(name, loc):
    moved = kl_of(PRIORS[name](loc=loc), MEANS + loc, SCALES, DRAWS + loc)
    assert moved == pytest.approx(kl_of(PRIORS[name]()), rel=1e-5)
    assert kl_of(PRIORS[name](loc=loc)) != pytest.approx(kl_of(PRIORS[name]()), 1e-3)


def test_the_kl_to_a_centred_normal_is_the_closed_form():
    expected = (
        np.log(0.7 / SCALES) + (SCALES**2 + (MEANS - CENTERS) ** 2) / (2 * 0.7**2) - 0.5
    ).sum()
    assert kl_of(PRIORS["normal"](loc=CENTERS)) == pytest.approx(expected, rel=1e-5)


def test_the_kl_to_a_centred_mixture_is_that_of_its_densities():
    """The entropy in closed form, the other term at the draw."""
    norm = scipy.stats.norm
    p = np.log(
        0.3 * norm(CENTERS, 1.0).pdf(DRAWS) + 0.7 * norm(CENTERS, 0.1).pdf(DRAWS)
    )
    expected = -(norm(MEANS, SCALES).entropy() + p).sum()
    got = kl_of(PRIORS["scale_mixture"](loc=CENTERS))
    assert got == pytest.approx(expected, rel=1e-5)


def centred_layer(loc, **options):
    prior = uq.priors.NormalPrior(0.7, loc=loc)
    return uq.DenseVariational(3, kl_weight=0.1, prior=prior, **options)


def test_a_centre_at_the_initial_weights_stays_there():
    layer = centred_layer("initial_weights", seed=1)
    layer.build((None, 4))
    counts = (len(layer.trainable_weights), len(layer.non_trainable_weights))
    assert counts == (3, 3)  # the kl_weight, and a centre for each of two weights
    scales = np.concatenate([s.ravel() for s in layer.posterior.scale.values()])
    at_start = (np.log(0.7 / scales) + (scales / 0.7) ** 2 / 2 - 0.5).sum()
    assert float(layer.kl()) == pytest.approx(at_start, rel=1e-5)
    layer.bias.assign([0.7, 0.0, -1.4])
    moved = at_start + (1 + 0 + 4) / 2
    assert float(layer.kl()) == pytest.approx(moved, rel=1e-5)


def test_a_centre_is_saved_with_the_layer(tmp_path):
    """In the file of the weights, not in the config, however large it is."""
    centred = centred_layer(
        CENTERS, bias_prior=uq.priors.NormalPrior(loc="initial_weights")
    )
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            centred,
            uq.Variational(
                keras.layers.LSTM(2),
                kl_weight=0.1,
                prior=uq.priors.ScaleMixturePrior(loc="initial_weights"),
            ),
        ]
    )
    assert len(model.to_json()) < 10_000
    for layer in model.layers:
        randomize(layer)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    expected = [to_numpy(layer.kl()) for layer in model.layers]
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, clone):
        found = [to_numpy(layer.kl()) for layer in other.layers]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loc", ["zeros", float("nan"), True, None, [1.0, np.inf], ["a"], {"kernel": 1.0}]
)
def test_a_wrong_centre_is_an_error(loc):
    with pytest.raises(ValueError, match="`loc` must be a finite number, an array"):
        uq.priors.NormalPrior(loc=loc)


def test_a_centre_of_another_shape_is_an_error():
    layer = centred_layer(CENTERS)
    with pytest.raises(ValueError, match=r"weight 'bias', \(3,\).*shape \(4, 3\)"):
        layer.build((None, 4))
