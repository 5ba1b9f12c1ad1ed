"""The rooms stay rooms: who imports whom, read from the syntax tree."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_uq_layers

ROOT = Path(keras_uq_layers.__file__).parent
PACKAGE = "keras_uq_layers"

GUIDE = ROOT.parent / "CONTRIBUTING.md"

# Every room may use these. They use nothing but each other.
EVERYWHERE = {
    "arguments", "registration", "_hush", "_keras", "_namespace", "_other_names",
    "_typing", "_version",
}  # fmt: skip


def table(text):
    """The rooms of CONTRIBUTING: what each imports of ours, and of others."""
    ours, others = {}, {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not cells[0].startswith("`"):
            continue
        named = [re.findall(r"`(\w+)(?:\.py|/)?`", cell) for cell in cells]
        for room in named[0]:
            ours[room], others[room] = set(named[2]), set(named[3])
    return ours, others


ALLOWED, THIRD_PARTIES = table(GUIDE.read_text())
ALLOWED.update({room: set() for room in EVERYWHERE})
THIRD_PARTIES["_keras"] = {"jax", "torch"}  # whether code is traced


def rooms():
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        yield room, path


def imported(path):
    """Dotted names of all modules imported in a file, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def violations(room, names):
    for name in names:
        top, *rest = name.split(".")
        if top == PACKAGE:
            target = rest[0] if rest else PACKAGE
            if target != room and target not in ALLOWED[room] | EVERYWHERE:
                yield name
        elif top not in sys.stdlib_module_names | {"keras", "numpy"} | (
            THIRD_PARTIES.get(room, set())
        ):
            yield name


def test_every_room_is_in_the_table():
    assert {room for room, _ in rooms()} - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize(
    ("room", "path"),
    [
        pytest.param(r, p, id=str(p.relative_to(ROOT)))
        for r, p in rooms()
        if r in ALLOWED
    ],
)
def test_a_room_imports_only_what_it_may(room, path):
    assert not list(violations(room, imported(path)))


def test_the_check_can_fail():
    assert list(violations("numerics", ["keras_uq_layers.layers.bump_layer"]))
    assert list(violations("layers", ["keras_uq_layers.losses"]))
    assert list(violations("layers", ["tensorflow_probability"]))
    assert not list(violations("layers", ["keras_uq_layers.numerics", "keras", "math"]))
    ours, others = table("| `a/`, `b.py` | words | `c`, `d` | `scipy` |\n| no | row |")
    assert ours == {"a": {"c", "d"}, "b": {"c", "d"}}
    assert others == {"a": {"scipy"}, "b": {"scipy"}}


def test_few_files_look_at_the_backend():
    users = {
        str(path.relative_to(ROOT))
        for _, path in rooms()
        if "backend.backend()" in path.read_text()
    }
    assert users == {
        "_keras.py",  # whether code is traced
        "_random/__init__.py",  # the generators of TensorFlow and PyTorch
        "numerics/special.py",  # functions that keras.ops lacks
        "numerics/division.py",  # the quotient rule of JAX
        "numerics/matmul.py",  # the checks of Keras on PyTorch
        "numerics/vectorized_map.py",  # TensorFlow gains nothing by it
        "numerics/vector.py",  # each takes a vector apart in another way
        "layers/_seeding.py",  # the replicas of TensorFlow, the state on PyTorch
        "prediction/sampler.py",  # XLA is the only compiler of JAX
        "testing/_gradients.py",
        "testing/layers.py",  # float64 on JAX
    }


def fresh_process(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


# The rooms that a layer uses.
LAYERS = {
    "_random", "numerics", "families", "posteriors", "priors", "_weight_distribution",
    "constraints", "layers", "batches",
}  # fmt: skip
ON_FIRST_USE = [
    *(f"{PACKAGE}.{room}" for room in ALLOWED if room not in LAYERS | EVERYWHERE),
    f"{PACKAGE}._other_names",
    f"{PACKAGE}.families.beta",
    f"{PACKAGE}.layers._always_drops",
    "matplotlib",
    "statistics",
    "unittest",
]
STEPS = [
    "import keras_uq_layers as uq",
    "uq.diagnose, uq.callbacks.Doctor, uq.plotting, uq.testing",
    "uq.to_tfp([[0.0, 1.0]], 'normal')",
]
SAVED = Path(__file__).parent / "saved" / "0.1.0"


@pytest.fixture(scope="module")
def fresh():
    """What a fresh process finds.

    After each step: which top-level modules are new, and which of those on first
    use are loaded. Then about the registered names: which of them are missing
    after the import alone, and which are said to be in another module.
    """
    code = f"""
import json, sys, keras, importlib, pkgutil
packages = lambda: {{name.partition(".")[0] for name in sys.modules}}
of_keras = packages()
for name in {ON_FIRST_USE}:  # Keras itself may have loaded some
    sys.modules.pop(name, None)
found = []
for step in {STEPS}:
    exec(step)
    new = packages() - of_keras - sys.stdlib_module_names
    late = [name for name in {ON_FIRST_USE} if name in sys.modules]
    found.append([sorted(new), late])
    if step == "import keras_uq_layers as uq":
        known = dict(keras.saving.get_custom_objects())
        for name in ("serving", "to_mc_dropout"):
            keras.saving.load_model(f"{SAVED}/{{name}}.keras")
for module in pkgutil.walk_packages(uq.__path__, "{PACKAGE}."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
missing = sorted(set(keras.saving.get_custom_objects()) - set(known))
wrong = [
    name for name, item in known.items()
    if not isinstance(item, type) and not item.load().__module__.startswith(item.module)
]
print(json.dumps([found, missing, wrong]))
"""
    done = fresh_process(code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def loaded(fresh):
    return fresh[0]


def test_the_import_adds_nothing_to_that_of_keras(loaded):
    (new, _), _, _ = loaded
    assert new == ["keras_uq_layers"]


def test_the_check_of_the_import_can_fail(loaded):
    *_, (new, _) = loaded
    assert "tensorflow_probability" in new


def test_some_modules_are_loaded_on_first_use(loaded):
    (_, before), (_, after), _ = loaded
    assert not before
    names = ("callbacks", "doctor", "plotting", "testing")
    assert set(after) >= {*(f"{PACKAGE}.{name}" for name in names), "unittest"}


def test_some_modules_keep_their_registered_names_before_they_are_loaded(fresh):
    """Or a saved file would not load after the import alone."""
    _, missing, wrong = fresh
    assert not missing
    assert not wrong


# The private parts of Keras


def private_names():
    """Attributes with an underscore that objects of Keras have."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    layer = keras.layers.Dense(1)
    objects = [
        model,
        keras.Sequential([layer]),
        layer,
        keras.layers.RNN(keras.layers.GRUCell(1)),
        keras.losses.MeanSquaredError(),
        keras.metrics.Mean(),
        keras.optimizers.SGD(),
        keras.random.SeedGenerator(0),
        keras.Variable(0.0),
        inputs,
    ]
    names = {name for found in objects for name in dir(found)}
    return {name for name in names if name.startswith("_") and name[1] != "_"}


def uses_of_private_keras(text, names):
    nodes = list(ast.walk(ast.parse(text)))
    # A name may be that of Keras by chance: not where the file defines it.
    names = names - {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node.attr
        elif isinstance(node, ast.Constant) and node.value in names:
            yield node.value
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("keras.src"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("keras.src"))


def test_only_one_file_knows_the_private_parts_of_keras():
    names = private_names()
    found = {}
    for room, path in rooms():
        used = set(uses_of_private_keras(path.read_text(), names))
        if used and room != "_keras":
            found[str(path.relative_to(ROOT))] = used
    assert not found


def test_the_check_of_private_parts_can_fail():
    names = private_names()
    for text in (
        "model._flatten_layers()",
        "model.__dict__['_compile_loss']",
        "from keras.src.backend import get_keras_mask",
        "import keras.src",
    ):
        assert list(uses_of_private_keras(text, names)), text


def registered_in(folder):
    """The files that register a class under each name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                if "register_keras_serializable" in text:
                    key = text, node.name
                    found.setdefault(key, []).append(path.name)
    return found


def test_no_two_tests_register_the_same_name():
    """In one process the later file would replace the class of the other."""
    found = registered_in(Path(__file__).parent)
    assert len(found) > 3
    assert not {key: files for key, files in found.items() if len(files) > 1}
