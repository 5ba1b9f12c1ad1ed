"""What must hold on another backend, run there in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import travel

HERE = Path(__file__).parent

# What a backend could break, and CI has the time for: every layer through the
# harness, the KL once per pass in shared, wrapped and recurrent layers, and the
# properties at the ends of a dtype.
FILES = [
    "layers/test_harness.py",
    "layers/test_kl_policy.py",
    "upstream",
    "families/test_exact.py",
    "families/test_location_scale.py",
    "families/test_parameterizations.py",
    "numerics/test_bump.py",
    "numerics/test_incomplete.py",
    "numerics/test_matmul.py",
    "numerics/test_positive.py",
    "numerics/test_vector.py",
    # What is decided by the backend's tensors: the family on a tensor, and
    # whether a pass is random.
    "conversion/test_copies.py",
    "conversion/test_to_laplace.py::"
    "test_posterior_and_evidence_are_the_formula_written_out",
    "test_novelty.py::test_the_score_is_the_one_of_the_paper",
    "test_random.py",
    "test_reading.py",
    "prediction/test_randomness.py",
    "prediction/test_several_outputs.py",
    "prediction/test_several_passes_at_once.py",
    "prediction/test_unknown_rows.py",
    "test_targets.py",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="started from there already"
    ),
]
each_other_backend = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(name) is None, reason=f"no {name} installed"
            ),
        )
        for name in ("jax", "torch")
    ],
)


def start(backend, *command):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE.parent,
        # x64: the oracles are in float64. Every shape compiles anew on JAX:
        # fewer examples.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            "KERAS_BACKEND": backend,
            "JAX_ENABLE_X64": "1",
            "HYPOTHESIS_PROFILE": "few" if backend == "jax" else "quick",
        },
    )


def finish(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output[-8000:]


def run(backend, *command):
    finish(start(backend, *command))


@each_other_backend
def test_the_tests(backend):
    """In one process: it imports once, and compiles each small operation once."""
    # pytest fails where a file or a test does not exist.
    tests = [HERE / name for name in FILES]
    run(backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


@each_other_backend
def test_without_tensorflow(backend):
    """Neither this package nor Keras needs it there, and our import does not ask."""
    run(backend, HERE / "without_tensorflow.py")


def test_a_file_travels(tmp_path):
    """A file written on any backend predicts the same on the other two."""
    pytest.importorskip("jax", reason="jax is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    names = ("tensorflow", "jax", "torch")
    folders = {name: tmp_path / name for name in names}
    travellers = []
    for name in ("jax", "torch"):
        others = [f"read={folders[other]}" for other in names if other != name]
        command = HERE / "travel.py", f"write={folders[name]}", *others
        travellers.append(start(name, *command))
    travel.write(folders["tensorflow"])
    for traveller in travellers:
        finish(traveller)
    travel.read(folders["jax"])
    travel.read(folders["torch"])
