"""What must hold on another backend, run there in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent

# What a backend could break, and CI has the time for: the KL once per pass in
# shared, wrapped and recurrent layers, and gradients at the ends of a dtype.
FILES = ["test_kl_policy.py", "numerics/test_bump.py", "numerics/test_laplace.py"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="started from there already"
)
def test_on_jax():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            *(str(HERE / name) for name in FILES),
        ],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        # x64: the oracles are in float64. Every shape compiles anew on JAX:
        # fewer examples.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_ENABLE_X64": "1",
            "HYPOTHESIS_PROFILE": "quick",
        },
    )
    assert done.returncode == 0, done.stdout[-8000:]
