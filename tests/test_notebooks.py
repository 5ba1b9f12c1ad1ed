"""Every notebook runs, and what is committed can be read without running it."""

import os
import re
import sys
from pathlib import Path

import keras
import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the notebooks show TensorFlow, which is the default backend",
)

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

from execute import execute  # noqa: E402
from execute import picture  # noqa: E402

NOTEBOOKS = sorted(
    (ROOT / "notebooks").glob("*.ipynb"), key=lambda p: int(p.stem.split("-")[0])
)
SECONDS = 90  # for a cell, and a whole notebook takes less on two quiet cores
# A busy machine is slower: as often as this.
FACTOR = float(os.environ.get("NOTEBOOK_TIMEOUT_FACTOR", "3"))
PLACES = re.compile(r"(?<![\w.:/])/(?:tmp|home|root|usr|var|opt|Users|work)/|[A-Z]:\\")

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    return "".join(
        output.text for output in cell.outputs if output.output_type == "stream"
    )


def figures(notebook):
    return [
        output
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def faults(notebook):
    """What a reader on a code-hosting page would stumble over."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not executed once and in order: {counts}"
    for cell in code_cells(notebook):
        if "print(" in cell.source and "def " not in cell.source and not printed(cell):
            yield f"no output of: {cell.source}"
        if "plt.show()" in cell.source and not any(
            "image/png" in output.get("data", {}) for output in cell.outputs
        ):
            yield f"no picture of: {cell.source}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"an error: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"a warning: {output.text}"
            shown = output.get("data", {}).get("text/plain", "")
            text = output.get("text", "") + shown
            if PLACES.search(text):
                yield f"a path of the machine it ran on: {text}"
    if "assert " not in code_cells(notebook)[-1].source:
        yield "the last cell checks nothing"
    if not printed(code_cells(notebook)[-1]):
        yield "the last cell does not say what was checked"
    if not figures(notebook):
        yield "no picture"
    if len(notebook.cells) > 25:
        yield f"{len(notebook.cells)} cells are too many"
    if set(notebook.metadata) - {"kernelspec", "language_info"}:
        yield f"metadata of an editor: {sorted(notebook.metadata)}"


def test_there_are_eleven():
    numbers = [int(path.stem.split("-")[0]) for path in NOTEBOOKS]
    assert numbers == [*range(1, 12)]


@pytest.mark.slow
@every_notebook
def test_runs_from_end_to_end(path):
    notebook = execute(path, SECONDS * FACTOR)
    stored = nbformat.read(path, as_version=4)
    assert len(figures(notebook)) == len(figures(stored))
    assert printed(code_cells(notebook)[-1]).strip()


@every_notebook
def test_opens_with_its_picture(path):
    notebook = nbformat.read(path, as_version=4)
    name = f"pictures/{path.stem}.png"
    title, _, shown = notebook.cells[0].source.splitlines()[:3]
    assert title.startswith("# ")
    assert re.fullmatch(rf"!\[.+\]\({name}\)", shown)
    assert (path.parent / name).read_bytes() == picture(notebook)


@every_notebook
def test_can_be_read_without_running(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert list(faults(notebook)) == []
    assert path.stat().st_size < 500_000
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_faults_are_found():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    cells = code_cells(notebook)
    cells[-1].source = "print('done')"
    cells[-1].outputs = [
        nbformat.v4.new_output("stream", text="/home/me/model.keras"),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[]),
    ]
    cells[0].execution_count = 7
    found = " ".join(faults(notebook))
    for fault in ("in order", "a path", "an error", "checks nothing"):
        assert fault in found


@every_notebook
def test_is_in_the_list(path):
    assert f"({path.name})" in (ROOT / "notebooks" / "README.md").read_text()


def test_the_migration_table_is_whole():
    layers = pytest.importorskip("tensorflow_probability").layers
    public = {n for n in dir(layers) if n[0] != "_" and callable(getattr(layers, n))}
    notebook = nbformat.read(NOTEBOOKS[6], as_version=4)
    rows = [
        line.split(" | ")[0]
        for cell in notebook.cells
        for line in cell.source.splitlines()
        if line.startswith("| `")
    ]
    listed = set(re.findall(r"`(\w+)`", " ".join(rows))) - {"tfp"}
    assert public <= listed, public - listed
    assert listed <= public, listed - public
