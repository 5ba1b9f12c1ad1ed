import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# XLA compiles what most tests run once, on TensorFlow and on JAX, here and in the
# processes that tests start. Without optimisation, and with its older and simpler
# code for elementwise operations, that takes a quarter of the processor time. A
# version of XLA that has no such option any more stops, and names it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)

import keras
import pytest
from hypothesis import HealthCheck
from hypothesis import settings

# Derandomised, so that CI gives one answer for one commit; the "thorough"
# profile (HYPOTHESIS_PROFILE=thorough) looks for new counter-examples.
# No deadline: the first call of an op compiles it.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=8)
# On JAX nearly every example compiles anew.
settings.register_profile("few", settings.get_profile("ci"), max_examples=4)
settings.register_profile("thorough", deadline=None, max_examples=2000)

# The longest tests, the longest first: a worker that begins one of them last
# would keep the others waiting.
LONGEST = (
    "test_backends.py::test_the_tests[jax",
    "test_two_processes_one_is_killed",
    "test_runs_from_end_to_end[6",
    "test_docs.py",
    "test_backends.py",
    "test_uci_on_jax",
    "test_runs_from_end_to_end",
    "stories/",
)
# Files without a training, which take long all the same: marked as slow.
SLOW = (
    "conversion/test_to_laplace.py",
    "doctor/test_healthy.py",
    "families/test_all_families.py",
    "families/test_exact.py",
    "families/test_interval.py",
    "families/test_zero_inflated.py",
    "layers/test_harness.py",
    "layers/test_variational_wrapper.py",
    "metrics/test_with_callbacks.py",
    "numerics/test_incomplete.py",
    "prediction/test_passes.py",
    "test_benchmarks.py::test_fashion_mnist_goes_on",
    "test_benchmarks.py::test_uci_on_jax",
    "test_devices.py",
    "test_documentation.py::test_the_examples_of_a_page_run",
    "test_ensemble.py",
    "prediction/test_every_family.py",
    "test_from_head_to_plots.py",
    "test_export.py",
    "test_precision.py",
    "test_saved_files.py",
    "test_structure.py::test_the_check_of_the_import",
    "test_structure.py::test_the_import_adds",
    "test_structure.py::test_some_modules",
    "test_tools.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """With `-n`, a worker that has nothing left takes tests from the others."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_configure(config):
    quick = config.option.markexpr == "not slow"
    profile = "quick" if quick else "ci"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", profile))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    def rank(item):
        places = (i for i, name in enumerate(LONGEST) if name in item.nodeid)
        return next(places, len(LONGEST))

    items.sort(key=rank)
    files = (Path(__file__).parent / name.partition("::")[0] for name in SLOW)
    assert all(file.exists() for file in files), "a path of SLOW is wrong"
    for item in items:
        if any(name in item.nodeid for name in SLOW):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Takes what was imported out of the garbage collector's rounds.

    TensorFlow and its companions are half a million objects that stay. A round
    that visits them takes a quarter of a second.
    """
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Every test starts from the same global seed and the default policies."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    # Python collects garbage when there is some: not after each test.
    keras.backend.clear_session(free_memory=False)
