import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

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
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=8)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


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
