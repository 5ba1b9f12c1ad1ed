"""Random numbers have their distribution, however the code that draws them runs."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_uq_layers import _random
from keras_uq_layers.layers._seeding import SeedGenerator

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
tensorflow_only = pytest.mark.skipif(
    not ON_TENSORFLOW, reason="on the other backends the numbers are those of Keras"
)
torch_only = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the shorter way is for PyTorch alone"
)
# How a function runs: eagerly, as a graph, and compiled by XLA.
MODES = ("eager", "graph", "XLA") if ON_TENSORFLOW else ("eager",)
ODD = (331, 303)  # shape with an odd number of entries


def run(function, mode):
    if mode == "eager":
        return ops.convert_to_numpy(function())
    import tensorflow as tf

    return tf.function(function, jit_compile=mode == "XLA")().numpy()


@pytest.fixture(params=MODES)
def draw(request):
    """Function that draws twice from one generator, in one mode."""

    def twice(function):
        seeds = keras.random.SeedGenerator(7)
        return [run(lambda: function(seeds), request.param) for _ in range(2)]

    return twice


def correlation(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def assert_independent(one, other):
    limit = 4.5 / np.sqrt(one.size)
    assert abs(correlation(one, other)) < limit
    # Box-Muller makes two normal numbers of one radius: their squares would show it.
    half = one.size // 2
    first, second = one.ravel()[:half], one.ravel()[half : 2 * half]
    limit = 4.5 / np.sqrt(half)
    assert abs(correlation(first, second)) < limit
    assert abs(correlation(first**2, second**2)) < limit


def test_normal_numbers_are_normal(draw):
    one, other = draw(lambda seed: _random.normal(ODD, "float32", seed))
    assert one.shape == ODD
    assert one.dtype == "float32"
    assert stats.kstest(one.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(one.ravel() ** 2, stats.chi2(1).cdf).pvalue > 1e-3
    assert_independent(one, other)


def test_uniform_numbers_are_uniform(draw):
    one, other = draw(lambda seed: _random.uniform(ODD, 1e-30, "float32", seed))
    assert one.min() > 0
    assert one.max() < 1
    assert stats.kstest(one.ravel(), "uniform").pvalue > 1e-3
    assert_independent(one, other)


def test_integers_are_equally_likely(draw):
    one, other = draw(lambda seed: _random.integers(ODD, 2**16, seed))
    assert one.dtype == "int32"
    for bit in range(16):
        ones, others = one >> bit & 1, other >> bit & 1
        assert abs(ones.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(ones.size)
        assert abs(correlation(ones, others)) < 4.5 / np.sqrt(ones.size)
    assert one.max() < 2**16


def test_signs_are_equally_likely_and_independent(draw):
    columns = 5, 40
    both = draw(
        lambda seed: ops.concatenate(
            _random.signs(20_000, columns, "float32", seed), axis=1
        )
    )
    limit = 4.5 / np.sqrt(20_000)
    for one in both:
        assert one.shape == (20_000, 45)
        assert one.dtype == "float32"
        assert set(np.unique(one)) == {-1.0, 1.0}
        assert abs(one.mean(axis=0)).max() < limit
    # Within a draw and between the two.
    correlations = np.corrcoef(np.concatenate(both, axis=1), rowvar=False)
    assert abs(correlations - np.eye(90)).max() < limit


@torch_only
def test_the_shorter_way_leads_to_the_numbers_of_keras():
    ours, theirs = SeedGenerator(3), keras.random.SeedGenerator(3)
    for seeds in [(ours, theirs)] * 3 + [(5, 5), (-1, -1)]:
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            drawn = _random.normal((7, 9), dtype, seeds[0])
            expected = keras.random.normal((7, 9), dtype=dtype, seed=seeds[1])
            assert keras.backend.standardize_dtype(drawn.dtype) == dtype
            assert (drawn == expected).all()
        drawn = _random.integers((50,), 2**16, seeds[0])
        expected = keras.random.randint((50,), 0, 2**16, seed=seeds[1])
        assert drawn.dtype == expected.dtype
        assert (drawn == expected).all()
        drawn = _random.uniform((7, 9), 0.25, "float32", seeds[0])
        expected = keras.random.uniform((7, 9), minval=0.25, seed=seeds[1])
        assert (drawn == expected).all()
        inputs = ops.ones((7, 9, 2), "float16")
        drawn = _random.dropout(inputs, 0.3, (None, 1, None), seeds[0])
        expected = keras.random.dropout(inputs, 0.3, (None, 1, None), seed=seeds[1])
        assert drawn.dtype == expected.dtype
        assert (drawn == expected).all()
    np.testing.assert_array_equal(ours.state.numpy(), theirs.state.numpy())


DRAWS = {
    "normal": lambda seed: _random.normal((5, 3), "float32", seed),
    "uniform": lambda seed: _random.uniform((5, 3), 0.0, "float32", seed),
    "integers": lambda seed: _random.integers((5, 3), 100, seed),
    "signs": lambda seed: _random.signs(5, [20], "float32", seed)[0],
    "dropout": lambda seed: _random.dropout(ops.ones((5, 3)), 0.5, (None, 3), seed),
}


@pytest.mark.skipif(ON_TENSORFLOW, reason="TensorFlow makes one draw at a time")
@pytest.mark.parametrize("name", DRAWS)
def test_draws_at_once_are_the_draws_one_by_one(name):
    """`predict` runs several passes at once, each with a seed of its own."""
    generator = keras.random.SeedGenerator(0)

    def draw(state):
        with keras.StatelessScope([(generator.state, state)]):
            return DRAWS[name](generator)

    seeds = [keras.random.SeedGenerator(i).state.value for i in range(6)]
    found = ops.vectorized_map(draw, ops.stack(seeds))
    expected = ops.stack([draw(seed) for seed in seeds])
    np.testing.assert_array_equal(found, expected)
    assert len({one.tobytes() for one in ops.convert_to_numpy(found)}) == 6


@torch_only
def test_a_draw_in_a_trace_of_shapes_has_no_numbers():
    layer = keras.layers.Lambda(lambda x: x + _random.normal((3,), "float32", 1))
    spec = layer.compute_output_spec(keras.KerasTensor((None, 3)))
    assert spec.shape == (None, 3)


def test_dropout_drops_its_share_and_keeps_the_mean(draw):
    inputs = ops.ones((400, 30, 8))
    one, other = draw(lambda seed: _random.dropout(inputs, 0.25, (None, 1, None), seed))
    assert np.unique(one).tolist() == [0.0, np.float32(1 / 0.75)]
    assert (one == one[:, :1]).all()
    kept, others = one[:, 0] > 0, other[:, 0] > 0
    error = np.sqrt(0.25 * 0.75 / kept.size)
    assert abs(kept.mean() - 0.75) < 4.5 * error
    assert abs(correlation(kept, others)) < 4.5 / np.sqrt(kept.size)


@tensorflow_only
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_normal_numbers_of_each_dtype(draw, dtype):
    one, _ = draw(
        lambda seed: ops.cast(_random.normal((100_001,), dtype, seed), "float64")
    )
    assert abs(one.std() - 1) < 0.02
    # Half precision does not cut the tail: a hundred thousand reach beyond 3.9.
    assert abs(one).max() > 3.9


@tensorflow_only
def test_few_normal_numbers_are_those_of_keras():
    """Most layers of a test or a tutorial have fewer than a thousand weights."""
    drawn = _random.normal((300, 3), "float32", 5)
    expected = keras.random.normal((300, 3), seed=5)
    np.testing.assert_array_equal(drawn, expected)


@tensorflow_only
def test_no_normal_number_is_infinite(monkeypatch):
    """The smallest and the largest uniform number there is."""
    for extreme in (0.0, np.nextafter(np.float32(1), np.float32(0))):
        monkeypatch.setattr(
            _random,
            "uniform",
            lambda shape, minval, dtype, seed, u=extreme: ops.full(shape, u, dtype),
        )
        z = ops.convert_to_numpy(_random.normal((1001,), "float32", 1))
        assert np.isfinite(z).all()


@tensorflow_only
def test_xla_is_recognised_where_it_compiles():
    """If TensorFlow moves the function that says so, draws become slow, not wrong."""
    import tensorflow as tf

    if not _random._is_tensorflow_on_cpu():
        pytest.skip("the answer is no on a machine with an accelerator")
    seen = {}

    def look(where):
        seen[where] = _random._xla_compiles_for_cpu()
        return tf.constant(0.0)

    def look_inside():
        branch = tf.cond(tf.constant(True), lambda: look("branch"), lambda: 1.0)
        return branch + tf.function(look)("inner function")

    look("eager")
    tf.function(look)("graph")
    tf.function(look_inside, jit_compile=True)()
    assert seen == {
        "eager": False,
        "graph": False,
        "branch": True,
        "inner function": True,
    }
