import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow_probability as tfp
from backend import to_numpy
from backend import value_and_gradients
from hypothesis import given
from hypothesis import strategies as st

import keras_uq_layers as uq
from keras_uq_layers.losses import NegativeLogLikelihood
from keras_uq_layers.losses import constant_normal_nll


def data(shape=(6,), units=1, seed=0):
    rng = np.random.default_rng(seed)
    y, loc = rng.normal(size=(2, *shape, units)).astype("float32")
    scale = np.exp(rng.normal(size=(*shape, units))).astype("float32")
    return y, np.concatenate([loc, scale], axis=-1), loc, scale


class Masked(keras.layers.Layer):
    """Gives a params tensor the mask that a model would."""

    def __init__(self, mask):
        super().__init__()
        self.mask = keras.ops.convert_to_tensor(mask)
        self.supports_masking = True

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, previous_mask=None):
        return self.mask


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has name scopes"
)
@pytest.mark.parametrize(
    "loss",
    [
        NegativeLogLikelihood("normal"),
        uq.losses.CRPS("normal"),
        uq.losses.Pinball([0.1, 0.9]),
    ],
    ids=lambda loss: loss.name,
)
def test_in_a_graph_of_the_user(loss):
    import tensorflow as tf

    y, params, _, _ = data()
    value = float(loss(y, params))
    assert float(tf.function(loss)(y, params)) == pytest.approx(value, rel=1e-6)


def test_summed_over_outputs_and_averaged_over_positions():
    y, params, loc, scale = data((4, 3), units=2)
    nll = -scipy.stats.norm(loc, scale).logpdf(y)
    values = NegativeLogLikelihood("normal", reduction=None)(y, params)
    np.testing.assert_allclose(to_numpy(values), nll.sum(-1), rtol=1e-5)
    mean = float(NegativeLogLikelihood("normal")(y, params))
    np.testing.assert_allclose(mean, nll.sum(-1).mean(), rtol=1e-5)
    total = float(NegativeLogLikelihood("normal", reduction="sum")(y, params))
    np.testing.assert_allclose(total, nll.sum(), rtol=1e-5)


def test_the_laplace_family():
    y, params, loc, scale = data()
    nll = -scipy.stats.laplace(loc, scale).logpdf(y)
    value = float(NegativeLogLikelihood("laplace")(y, params))
    np.testing.assert_allclose(value, nll.mean(), rtol=1e-5)


def test_a_missing_last_axis_is_added_and_nothing_else():
    y, params, _, _ = data()
    loss = NegativeLogLikelihood("normal")
    assert float(loss(y[:, 0], params)) == float(loss(y, params))
    with pytest.raises(ValueError, match="`y` must have shape"):
        loss(y.T, params)


def test_a_float16_params_tensor_is_scored_in_float32():
    params = keras.ops.cast(np.array([[0.0, 1e-3]]), "float16")
    value = NegativeLogLikelihood("normal")(np.array([[100.0]]), params)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert np.isfinite(float(value))


def test_float64_stays_float64():
    keras.config.set_floatx("float64")
    assert NegativeLogLikelihood("normal").dtype == "float64"
    keras.config.set_floatx("float16")
    assert NegativeLogLikelihood("normal").dtype == "float32"


class TestWeights:
    @pytest.mark.parametrize("shape", [(6,), (6, 1)])
    def test_per_example(self, shape):
        y, params, loc, scale = data()
        weights = np.linspace(0.0, 2.0, 6)
        nll = -scipy.stats.norm(loc, scale).logpdf(y)[:, 0]
        value = float(
            NegativeLogLikelihood("normal")(y, params, weights.reshape(shape))
        )
        # Keras divides by the count, not by the sum of the weights.
        np.testing.assert_allclose(value, (weights * nll).mean(), rtol=1e-5)

    def test_as_many_examples_as_steps(self):
        y, params, loc, scale = data((5, 5))
        weights = np.arange(5.0)
        nll = -scipy.stats.norm(loc, scale).logpdf(y)[..., 0]
        value = float(NegativeLogLikelihood("normal")(y, params, weights))
        expected = (weights[:, None] * nll).mean()
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert abs(expected - (weights[None] * nll).mean()) > 0.1

    def test_per_position(self):
        y, params, loc, scale = data((4, 3))
        weights = np.random.default_rng(0).uniform(size=(4, 3))
        nll = -scipy.stats.norm(loc, scale).logpdf(y)[..., 0]
        value = float(NegativeLogLikelihood("normal")(y, params, weights))
        np.testing.assert_allclose(value, (weights * nll).mean(), rtol=1e-5)

    @pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3, 1), (4, 2)])
    def test_that_do_not_fit(self, shape):
        y, params, _, _ = data((4, 3))
        with pytest.raises(ValueError, match="`sample_weight` must have"):
            NegativeLogLikelihood("normal")(y, params, np.ones(shape))

    def test_a_weight_of_zero_excludes_a_nan(self):
        y, params, _, _ = data()
        y[2], params[3] = np.nan, np.nan
        weights = np.array([1, 1, 0, 0, 1, 1], "float32")
        value, (gradient,) = value_and_gradients(
            lambda p: NegativeLogLikelihood("normal")(y, p, weights), params
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert (gradient[2:4] == 0).all()

    def test_a_nan_that_counts_is_not_hidden(self):
        y, params, _, _ = data()
        y[2] = np.nan
        assert np.isnan(float(NegativeLogLikelihood("normal")(y, params)))
        values = to_numpy(NegativeLogLikelihood("normal", reduction=None)(y, params))
        assert np.isnan(values).tolist() == [False, False, True, False, False, False]


class TestMasks:
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)

    def test_the_mean_is_over_the_valid_positions(self):
        y, params, loc, scale = data((4, 3))
        nll = -scipy.stats.norm(loc, scale).logpdf(y)[..., 0]
        value = float(NegativeLogLikelihood("normal")(y, Masked(self.mask)(params)))
        np.testing.assert_allclose(value, nll[self.mask].mean(), rtol=1e-5)

    def test_what_is_masked_may_hold_anything(self):
        y, params, _, _ = data((4, 3))
        clean = float(NegativeLogLikelihood("normal")(y, Masked(self.mask)(params)))
        y[~self.mask], params[~self.mask] = np.nan, np.inf
        layer = Masked(self.mask)
        value, (gradient,) = value_and_gradients(
            lambda p: NegativeLogLikelihood("normal")(y, layer(p)), params
        )
        assert value == np.float32(clean)
        assert (gradient[~self.mask] == 0).all()
        assert np.isfinite(gradient).all()

    def test_with_weights(self):
        y, params, loc, scale = data((4, 3))
        nll = -scipy.stats.norm(loc, scale).logpdf(y)[..., 0]
        weights = np.array([1.0, 2.0, 3.0, 4.0])
        value = float(
            NegativeLogLikelihood("normal")(y, Masked(self.mask)(params), weights)
        )
        expected = (weights[:, None] * nll)[self.mask].mean()
        np.testing.assert_allclose(value, expected, rtol=1e-5)

    def test_nothing_valid_is_zero(self):
        y, params, _, _ = data((4, 3))
        masked = Masked(np.zeros((4, 3), bool))(params)
        assert float(NegativeLogLikelihood("normal")(y, masked)) == 0.0

    def test_keras_agrees_on_the_reduction(self):
        """The same mask and weights through a loss of Keras itself."""
        y, params, _, _ = data((4, 3))
        weights = np.random.default_rng(0).uniform(size=(4, 3)).astype("float32")

        class Plain(keras.losses.Loss):
            def call(self, y_true, y_pred):
                return -uq.families.Normal().log_prob(y_true, y_pred)

        for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight"):
            ours = NegativeLogLikelihood("normal", reduction=reduction)
            theirs = Plain(reduction=reduction)
            for w in (None, weights):
                masked = Masked(self.mask)(params)
                np.testing.assert_allclose(
                    float(ours(y, masked, w)), float(theirs(y, masked, w)), rtol=1e-5
                )


class TestBeta:
    @given(beta=st.floats(0, 1))
    def test_the_gradient_is_that_of_the_paper(self, beta):
        y, params, loc, scale = data()
        _, (gradient,) = value_and_gradients(
            lambda p: NegativeLogLikelihood("normal", beta=beta, reduction="sum")(y, p),
            params,
        )
        variance = scale**2
        factor = variance**beta
        per_loc = factor * (loc - y) / variance
        per_variance = factor * (variance - (y - loc) ** 2) / (2 * variance**2)
        np.testing.assert_allclose(gradient[:, :1], per_loc, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            gradient[:, 1:], per_variance * 2 * scale, rtol=1e-4, atol=1e-4
        )

    def test_beta_one_is_least_squares_for_the_mean(self):
        y, params, loc, _ = data()
        _, (gradient,) = value_and_gradients(
            lambda p: NegativeLogLikelihood("normal", beta=1.0, reduction="sum")(y, p),
            params,
        )
        np.testing.assert_allclose(gradient[:, :1], loc - y, rtol=1e-5)

    @pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan"), "0.5", None])
    def test_outside_of_its_range(self, beta):
        with pytest.raises(ValueError, match="`beta` must be a number between 0 and 1"):
            NegativeLogLikelihood("normal", beta=beta)


def test_against_tfp():
    y, params, loc, scale = data((5,), units=3)
    law = tfp.distributions.Independent(tfp.distributions.Normal(loc, scale), 1)
    np.testing.assert_allclose(
        to_numpy(NegativeLogLikelihood("normal", reduction=None)(y, params)),
        -law.log_prob(y).numpy(),
        rtol=1e-5,
    )


def test_config_round_trip():
    loss = NegativeLogLikelihood("laplace", beta=0.5, reduction="sum", dtype="float64")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert isinstance(again, NegativeLogLikelihood)


def test_one_output_column_for_a_family_of_two_parameters():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", NegativeLogLikelihood("normal"))
    with pytest.raises(ValueError, match=r"2 blocks \(loc, scale\)"):
        model.fit(np.ones((4, 3)), np.ones(4), verbose=0)


class TestConstantNormal:
    def test_the_closed_form(self):
        y = np.random.default_rng(0).normal(3, 2, size=(1000, 2))
        expected = (np.log(y.std(0)) + 0.5 * np.log(2 * np.pi * np.e)).sum()
        assert abs(constant_normal_nll(y) - expected) < 1e-12

    def test_no_constant_normal_is_better(self):
        y = np.random.default_rng(0).gamma(2.0, size=500)
        for loc in np.linspace(1, 3, 7):
            for scale in np.linspace(0.5, 3, 7):
                other = -scipy.stats.norm(loc, scale).logpdf(y).mean()
                assert other >= constant_normal_nll(y)

    def test_on_other_data(self):
        rng = np.random.default_rng(0)
        y, test = rng.normal(size=50), rng.normal(size=30)
        expected = -scipy.stats.norm(y.mean(), y.std()).logpdf(test).mean()
        assert abs(constant_normal_nll(y, test) - expected) < 1e-12

    @pytest.mark.parametrize(
        ("y", "text"),
        [
            (np.ones(1), "at least two targets"),
            (np.array([1.0, np.nan]), "all finite"),
            (np.ones(5), "`y` must vary"),
            (np.ones((0, 2)), "`y` must hold targets"),
            (np.float64(1.0), "`y` must hold targets"),
        ],
    )
    def test_bad_targets(self, y, text):
        with pytest.raises(ValueError, match=text):
            constant_normal_nll(y)

    def test_another_width(self):
        with pytest.raises(ValueError, match="`y_test` must have 1 output"):
            constant_normal_nll(np.arange(5.0), np.ones((3, 2)))


def test_weights_of_examples_in_a_masked_series():
    """Keras multiplies the weights by the mask in place."""
    y, params, *_ = data((4, 3))
    mask = np.array([[True, True, False]] * 4)
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    loss = NegativeLogLikelihood("normal")
    found = float(loss(y, Masked(mask)(params), weights))
    single = to_numpy(NegativeLogLikelihood("normal", reduction=None)(y, params))
    expected = (single * weights[:, None])[mask].mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
