import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import strategies as st

import keras_uq_layers as uq

HEADS = [uq.DistributionHead, uq.ConstantVarianceHead]
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda h: h.__name__)


def split(params):
    loc, scale = np.split(to_numpy(params), 2, axis=-1)
    return loc, scale


@each_head
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4), (3, 2, 2, 4)])
def test_all_leading_axes_are_batch(head, shape):
    layer = head(2)
    output = layer(np.ones(shape))
    assert tuple(output.shape) == (*shape[:-1], 4)


@pytest.mark.parametrize("family", ["normal", "laplace"])
@given(scale=st.floats(0.01, 1e4))
def test_the_initial_scale(family, scale):
    head = uq.DistributionHead(
        1, family, initial_scale=scale, kernel_initializer="zeros"
    )
    params = head(np.ones((1, 3)))
    variance = to_numpy(head.family.variance(params))
    np.testing.assert_allclose(variance**0.5, scale, rtol=1e-4)


@pytest.mark.parametrize("name", uq.families.Normal.parameterizations)
@pytest.mark.parametrize("value", [-1e30, -1e4, 1e4, 1e30])
def test_the_scale_stays_above_the_floor_and_finite(name, value):
    head = uq.DistributionHead(1, scale_floor=0.01, parameterization=name)
    head.build((None, 1))
    head.dense.kernel.assign(np.ones((1, 2)))
    _, scale = split(head(np.full((1, 1), value, "float32")))
    assert np.isfinite(scale).all()
    assert (scale >= 0.01).all()


@each_head
@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16"])
def test_the_product_runs_in_float32(head, policy):
    """A float16 product of these overflows before any cast of its result."""
    layer = head(1, kernel_initializer="ones", dtype=policy)
    loc, _ = split(
        layer(keras.ops.cast(np.full((1, 8), 60000.0), policy.split("_")[-1]))
    )
    np.testing.assert_allclose(loc, 8 * 60000.0, rtol=1e-2)


class TestTheStart:
    """Before the first step."""

    @pytest.mark.parametrize("name", uq.families.Normal.parameterizations)
    @pytest.mark.parametrize("dropout", [False, True])
    def test_it_is_close_to_a_model_that_ignores_x(self, name, dropout):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(500, 8)).astype("float32")
        y = rng.normal(size=(500, 1))
        below = [uq.MCDropout(0.5)] if dropout else []
        losses = []
        for seed in range(30):
            keras.utils.set_random_seed(seed)
            head = uq.DistributionHead(1, parameterization=name)
            params = keras.Sequential([*below, head])(x)
            losses.append(-to_numpy(head.family.log_prob(y, params)).mean())
        # The scale of 1 is left, and the variance of loc: 16 / 9 at 8 inputs
        # with Glorot's kernel, twice that with half of them dropped.
        ignores_x = 0.5 * np.log(2 * np.pi) + 0.5
        expected = ignores_x + (16 / 9 if dropout else 8 / 9)
        assert abs(np.median(losses) - expected) < 0.4
        assert max(losses) < 6.0

    @pytest.mark.parametrize(
        "family",
        [f for f in map(uq.families.get, uq.families._BY_NAME) if f.spread]
        + [uq.families.NormalMixture(3), uq.families.Quantiles([0.1, 0.5, 0.9])],
        ids=repr,
    )
    def test_the_spread_does_not_depend_on_x(self, family):
        x = np.random.default_rng(0).normal(size=(20, 4))
        head = uq.DistributionHead(2, family)
        params = to_numpy(head(x))
        parts = dict(zip(family.parameters, family.split(params), strict=True))
        varies = {name: np.ptp(to_numpy(v), axis=0).max() for name, v in parts.items()}
        if isinstance(family, uq.families.Quantiles):
            varies = {
                name: np.ptp(to_numpy(v - parts["q0.5"]), axis=0).max()
                for name, v in parts.items()
            }
            assert np.ptp(to_numpy(parts["q0.5"]), axis=0).max() > 0.1
        assert all(varies[name] < 1e-6 for name in family.spread)
        if not isinstance(family, uq.families.Quantiles):
            rest = set(family.parameters) - set(family.spread)
            assert all(varies[name] > 0.1 for name in rest)

    def test_two_heads_of_one_seed_are_equal_and_their_columns_are_not(self):
        initializer = keras.initializers.GlorotUniform(seed=1)
        kernels = []
        for _ in range(2):
            head = uq.DistributionHead(
                1, uq.families.NormalMixture(2), kernel_initializer=initializer
            )
            head.build((None, 5))
            kernels.append(to_numpy(head.dense.kernel))
        np.testing.assert_array_equal(*kernels)
        assert len(np.unique(kernels[0][:, :4])) == 20
        assert (kernels[0][:, 4:] == 0).all()


@each_head
def test_integers_are_cast(head):
    assert np.isfinite(to_numpy(head(1)(np.array([[1, 2]])))).all()


@each_head
def test_a_mask_reaches_the_loss(head):
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    x[2, 1:] = 0.0
    y = np.random.default_rng(1).normal(size=(4, 3, 1)).astype("float32")
    y[2, 1:] = np.nan
    model = keras.Sequential([keras.layers.Masking(0.0), head(1)])
    model.compile("sgd", uq.losses.NegativeLogLikelihood())
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(logs["loss"])
    assert all(np.isfinite(to_numpy(v)).all() for v in model.weights)


class TestAdapt:
    @each_head
    @given(
        shift=st.floats(-1e6, 1e6), factor=st.floats(1e-3, 1e5), units=st.integers(1, 3)
    )
    def test_the_output_is_in_the_unit_of_y(self, head, shift, factor, units):
        x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
        z = np.random.default_rng(1).normal(size=(50, units))
        y = shift + factor * z
        layer = head(units)
        plain_loc, plain_scale = split(layer(x))
        layer.adapt(y)
        loc, scale = split(layer(x))
        mean, deviation = y.mean(0), y.std(0)
        slack = 1e-5 * (abs(mean) + deviation).max()
        np.testing.assert_allclose(loc, mean + deviation * plain_loc, atol=slack)
        np.testing.assert_allclose(scale, deviation * plain_scale, rtol=1e-4)

    @each_head
    def test_before_and_after_build_are_the_same(self, head):
        y = np.random.default_rng(0).normal(5, 3, size=(40, 2))
        early, late = head(2), head(2)
        early.adapt(y)
        for layer in (early, late):
            layer.build((None, 3))
        late.adapt(y)
        np.testing.assert_allclose(to_numpy(early.target_loc), y.mean(0), rtol=1e-6)
        for a, b in zip(
            early.non_trainable_weights, late.non_trainable_weights, strict=True
        ):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(b))

    @each_head
    @given(sizes=st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(sum))
    def test_batches_equal_the_whole(self, head, sizes):
        y = np.random.default_rng(0).normal(1e4, 1.0, size=(sum(sizes), 1)) + 1.0
        whole, parts = head(1), head(1)
        whole.adapt(y)
        parts.adapt(iter(np.split(y, np.cumsum(sizes)[:-1])))
        for layer in (whole, parts):
            layer.build((None, 2))
        np.testing.assert_allclose(
            to_numpy(parts.target_scale), to_numpy(whole.target_scale), rtol=1e-6
        )
        np.testing.assert_allclose(
            to_numpy(parts.target_loc), to_numpy(whole.target_loc), rtol=1e-6
        )

    @each_head
    @pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="tf.data is for TensorFlow"
    )
    def test_a_tf_data_set(self, head):
        import tensorflow as tf

        y = np.random.default_rng(0).normal(size=(10, 1))
        layer = head(1)
        layer.adapt(tf.data.Dataset.from_tensor_slices(y).batch(3))
        layer.build((None, 2))
        np.testing.assert_allclose(to_numpy(layer.target_loc), y.mean(0), rtol=1e-5)

    @each_head
    def test_it_survives_saving_and_changes_no_trace(self, head, tmp_path):
        model = keras.Sequential([head(1, kernel_initializer="zeros")])
        x = np.ones((4, 2), "float32")
        model.predict(x, verbose=0)
        model.layers[-1].adapt(np.array([10.0, 14.0]))
        expected = model.predict(x, verbose=0)
        assert expected[0, 1] == pytest.approx(2.0, rel=1e-5)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)

    @each_head
    def test_a_constant_target_keeps_the_unit(self, head):
        layer = head(1)
        layer.adapt(np.full(5, 3.0))
        layer.build((None, 2))
        assert to_numpy(layer.target_scale).tolist() == [1.0]

    @each_head
    @pytest.mark.parametrize(
        ("units", "y", "text"),
        [
            (1, np.ones((4, 2)), r"`y` must have shape \(batch,\) or \(..., 1\)"),
            (2, np.ones((4, 3)), r"`y` must have shape \(..., 2\), one column"),
            (2, np.ones(4), r"`y` must have shape \(..., 2\), one column"),
            (1, np.array([1.0, np.nan]), r"`y` must be finite. Received: 1 NaN"),
            (1, np.ones((0, 1)), "`y` must hold at least one target"),
        ],
    )
    def test_bad_targets(self, head, units, y, text):
        with pytest.raises(ValueError, match=text):
            head(units).adapt(y)

    def test_training_does_not_depend_on_the_unit(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 2)).astype("float32")
        y = x[:, 0] + 0.1 * rng.normal(size=200)
        losses = []
        for factor in (1.0, 1e5):
            keras.utils.set_random_seed(0)
            head = uq.DistributionHead(1)
            head.adapt(factor * y)
            model = keras.Sequential([head])
            model.compile(
                keras.optimizers.Adam(1e-2), uq.losses.NegativeLogLikelihood()
            )
            history = model.fit(x, factor * y, epochs=5, shuffle=False, verbose=0)
            losses.append(history.history["loss"][-1] - np.log(factor))
        np.testing.assert_allclose(losses[0], losses[1], atol=1e-3)


class TestConstantVariance:
    def test_a_fixed_scale_is_emitted_as_given(self):
        _, scale = split(uq.ConstantVarianceHead(2, scale=[0.5, 3.0])(np.ones((4, 3))))
        assert (scale == np.array([0.5, 3.0], "float32")).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [1.0, [1.0, 1.0]])
    def test_a_trainable_scale_reaches_the_residuals(self, scale):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2000, 3))
        noise = rng.normal(size=(2000, 2)) * [0.3, 0.3 if scale == 1.0 else 1.2]
        y = x @ rng.normal(size=(3, 2)) + 1.0 + noise
        model = keras.Sequential(
            [uq.ConstantVarianceHead(2, scale=scale, trainable_scale=True)]
        )
        schedule = keras.optimizers.schedules.CosineDecay(3e-2, 40 * 20)
        model.compile(
            keras.optimizers.Adam(schedule), uq.losses.NegativeLogLikelihood()
        )
        model.fit(x, y, batch_size=100, epochs=40, verbose=0)
        design = np.column_stack([x, np.ones(2000)])
        residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        expected = residuals.std() if scale == 1.0 else residuals.std(axis=0)
        _, learned = split(model(x[:1].astype("float32")))
        np.testing.assert_allclose(learned[0], expected, rtol=0.01)


@pytest.mark.parametrize(
    ("head", "kwargs", "text"),
    [
        (uq.DistributionHead, {"units": 0}, "`units` must be a positive integer"),
        (uq.DistributionHead, {"units": 1.5}, "`units` must be a positive integer"),
        (uq.DistributionHead, {"units": True}, "`units` must be a positive integer"),
        (
            uq.DistributionHead,
            {"units": 1, "family": "gaussian"},
            "`family` must be one of .*'normal'.* Received: family='gaussian'",
        ),
        (
            uq.DistributionHead,
            {"units": 1, "scale_floor": -1.0},
            "`scale_floor` must be a positive finite number. Received: scale_floor=-1",
        ),
        (
            uq.DistributionHead,
            {"units": 1, "scale_floor": float("inf")},
            "`scale_floor` must be a positive finite number",
        ),
        (
            uq.DistributionHead,
            {"units": 1, "initial_scale": 1e-4},
            "`initial_scale` must be above `scale_floor=0.001`. Received",
        ),
        (
            uq.DistributionHead,
            {"units": 1, "family": "laplace", "initial_scale": 0.0012},
            "above `scale_floor=0.001`, and so must its `scale` be, which is 0.00084",
        ),
        (uq.ConstantVarianceHead, {"units": -1}, "`units` must be a positive integer"),
        (
            uq.ConstantVarianceHead,
            {"units": 1, "scale": 0.0},
            "`scale` must be a positive finite number",
        ),
        (
            uq.ConstantVarianceHead,
            {"units": 1, "scale": float("nan")},
            "`scale` must be a positive finite number",
        ),
        (
            uq.ConstantVarianceHead,
            {"units": 2, "scale": [1.0]},
            r"`scale` must be one number, or one per output \(2\)",
        ),
        (
            uq.ConstantVarianceHead,
            {"units": 1, "scale": 1e-4, "trainable_scale": True},
            "`scale` must be above `scale_floor=0.001` to be trainable",
        ),
    ],
)
def test_bad_arguments(head, kwargs, text):
    with pytest.raises(ValueError, match=text):
        head(**kwargs)


@each_head
def test_an_input_without_features(head):
    with pytest.raises(ValueError, match="ndim"):
        head(1)(np.ones(3))


@each_head
def test_a_config_with_unknown_or_missing_keys(head):
    config = head(1).get_config()
    with pytest.raises(TypeError, match=r"(?s)colour|Unrecognized|unexpected"):
        head.from_config({**config, "colour": "red"})
    del config["units"]
    with pytest.raises(TypeError, match=r"(?s)units"):
        head.from_config(config)


def test_the_offset_of_the_features_is_computed_once(monkeypatch):
    head = uq.DistributionHead(2, "gamma")
    calls = []
    compute = head.family.initial_features

    def counted(*args):
        calls.append(args)
        return compute(*args)

    monkeypatch.setattr(head.family, "initial_features", counted)
    first = to_numpy(head(np.zeros((1, 3), "float32")))
    second = to_numpy(head(np.zeros((1, 3), "float32")))
    np.testing.assert_allclose(first, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(first, second)
    assert len(calls) == 1
