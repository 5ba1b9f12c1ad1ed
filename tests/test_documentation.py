"""Every example runs, and everything public is documented and registered."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_uq_layers as uq

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text()
    for path in (ROOT / "README.md", ROOT / "docs" / "index.md")
}


def modules():
    yield uq
    for info in pkgutil.walk_packages(uq.__path__, "keras_uq_layers."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


@pytest.mark.parametrize("module", list(modules()), ids=lambda m: m.__name__)
def test_examples(module):
    names = {"uq": uq, "np": np, "keras": keras, "ops": ops, **vars(module)}
    result = doctest.testmod(
        module, extraglobs=names, optionflags=doctest.ELLIPSIS, verbose=False
    )
    assert result.failed == 0


def public_objects():
    namespaces = [
        uq, uq.numerics, uq.families, uq.losses, uq.metrics, uq.constraints,
        uq.posteriors, uq.priors, uq.testing,
    ]  # fmt: skip
    seen = set()
    for namespace in namespaces:
        for name in namespace.__all__:
            found = getattr(namespace, name)
            own = getattr(found, "__module__", "").startswith("keras_uq_layers")
            if name.startswith("_") or not callable(found) or not own or found in seen:
                continue
            seen.add(found)
            yield pytest.param(found, id=f"{namespace.__name__}.{name}")


@pytest.mark.parametrize("found", list(public_objects()))
def test_documented(found):
    text = inspect.getdoc(found)
    assert text, "no docstring"
    arguments = inspect.signature(found).parameters
    for name, parameter in arguments.items():
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            assert re.search(rf"^\s*\*?{name}:", text, re.MULTILINE) or (
                "See `" in text or "Abstract:" in text
            ), f"argument `{name}` is not documented"


def test_every_layer_loss_and_metric_is_registered():
    registered = set(uq.custom_objects().values())
    for namespace in (
        uq,
        uq.losses,
        uq.metrics,
        uq.families,
        uq.posteriors,
        uq.priors,
        uq.constraints,
    ):
        for name in namespace.__all__:
            found = getattr(namespace, name)
            if (
                inspect.isclass(found)
                and hasattr(found, "get_config")
                and "Abstract" not in found.__doc__
                and found.__module__.startswith("keras_uq_layers")
                and found is not uq.families.Family
            ):
                assert found in registered, f"{found.__name__} is not registered"


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_catalogue_lists_every_public_class():
    catalogue = (ROOT / "docs" / "catalogue.md").read_text()
    # What functions return.
    helpers = {"ClassMoments", "ClassPrediction", "Diagnosis", "Moments", "Prediction"}
    helpers |= {"Family", "FamilyMetric", "MeanMetric", "Posterior", "Prior"}  # bases
    spaces = [uq, uq.families, uq.losses, uq.metrics, uq.posteriors, uq.priors]
    spaces += [uq.calibration, uq.callbacks, uq.constraints]
    checked = 0
    for space in spaces:
        for name in space.__all__:
            if inspect.isclass(getattr(space, name)) and name not in helpers:
                assert re.search(rf"`(\w+\.)*{name}[`(]", catalogue), name
                checked += 1
    assert checked > 50


def test_the_version_has_one_home():
    assert f"## {uq.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {uq.__version__}" in (ROOT / "CITATION.cff").read_text()
