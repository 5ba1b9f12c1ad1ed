"""Names from other libraries are answered, and completion shows ours alone."""

import inspect
import re
from pathlib import Path

import pytest

import keras_uq_layers as uq
from keras_uq_layers import _other_names

PAGE = Path(__file__).parent.parent / "docs" / "migration.md"
MODULES = [name for name in uq.__all__ if inspect.ismodule(getattr(uq, name))]
NAMESPACES = [uq, uq.layers, *(getattr(uq, name) for name in MODULES)]
NAMES = [
    (name, answer)
    for group in _other_names.TABLE.values()
    for name, answer in group.items()
]


def shown(text):
    """Dict from a name to its answer, from the rows of the page."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.*) \|$", text, re.MULTILINE)
    return {
        name: answer for names, answer in rows for name in re.findall(r"\w+", names)
    }


def test_the_migration_page_has_the_same_table():
    assert shown(PAGE.read_text()) == dict(NAMES)


def test_each_name_has_one_answer():
    for name, answer in NAMES:
        assert _other_names.suggest(name) == answer


def test_each_answer_exists():
    paths = {
        path for _, answer in NAMES for path in re.findall(r"\buq\.([\w.]+)", answer)
    }
    assert len(paths) > 30
    for path in paths:
        found = uq
        for part in path.split("."):
            found = getattr(found, part)


def test_every_layer_of_tfp_has_an_answer():
    layers = pytest.importorskip("tensorflow_probability").layers
    for name in dir(layers):
        if name[0].isupper() and not hasattr(uq, name):
            assert _other_names.suggest(name), name


def test_every_family_is_found_by_the_name_of_its_class():
    for name in uq.families.__all__:
        if inspect.isclass(getattr(uq.families, name)) and name != "Family":
            assert f"uq.families.{name}(" in _other_names.suggest(name)


@pytest.mark.parametrize(
    ("space", "name", "answer"),
    [
        (uq, "DenseFlipout", "uq.DenseVariational("),
        (uq, "Normal", "uq.families.Normal()"),
        (uq, "LSTMVariational", "uq.Variational(keras.layers.LSTM(units)"),
        (uq, "CRPS", "`uq.losses.CRPS`, `uq.metrics.CRPS`"),
        (uq, "prediction_band", "`uq.plotting.prediction_band`"),
        (uq.layers, "IndependentNormal", "uq.DistributionHead(D)"),
        (uq.families, "Gaussian", '"normal"'),
        (uq.losses, "GaussianNLL", "uq.losses.NegativeLogLikelihood"),
        (uq.metrics, "ECE", "uq.metrics.ExpectedCalibrationError"),
        (uq.callbacks, "predict", "`uq.predict`"),
    ],
)
def test_an_unknown_name_is_answered_by_ours(space, name, answer):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'. Here: ") as error:
        getattr(space, name)
    assert answer in str(error.value)


@pytest.mark.parametrize("name", ["gaussian", "Gaussian", "mvn", "log-normal"])
def test_an_unknown_family_is_answered_by_ours(name):
    with pytest.raises(
        ValueError, match=r'`family` must be one of .* Here: `"'
    ) as error:
        uq.DistributionHead(1, name)
    assert _other_names.suggest(name) in str(error.value)


def test_a_name_that_nobody_has_is_a_plain_error():
    for name in ("qwertz", "_qwertz", "__qwertz__"):
        with pytest.raises(AttributeError) as error:
            getattr(uq, name)
        assert str(error.value) == f"module 'keras_uq_layers' has no attribute '{name}'"


@pytest.mark.parametrize("space", NAMESPACES, ids=lambda space: space.__name__)
def test_completion_shows_documented_names_alone(space):
    offered = {name for name in dir(space) if not name.startswith("_")}
    assert offered == {name for name in space.__all__ if not name.startswith("_")}
    for name in offered:
        found = getattr(space, name)
        assert inspect.getdoc(found) or isinstance(found, (int, float)), name
