"""Several devices and several processes, each in processes of its own."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="started from there already"
    ),
]
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, HERE / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def results(script):
    process = start(script)
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-4000:]
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def mirrored():
    return results("mirrored.py")


@pytest.mark.parametrize("layer", ["reparameterization", "wrapper", "none"])
def test_two_replicas_that_share_the_noise_of_weights_are_one_device(mirrored, layer):
    """Equal weights after steps of SGD: equal gradients, and the KL once."""
    one, two = mirrored["same_noise"][layer]
    if layer != "none":
        assert one["kl"] > 0.5  # twice would be seen
    assert np.isfinite(one["losses"]).all()
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(two["kl"], one["kl"], rtol=1e-5)
    np.testing.assert_allclose(two["evaluated"], one["evaluated"], rtol=1e-5)
    np.testing.assert_allclose(two["predicted"], one["predicted"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["flipout", "dropout", "latent code"])
def test_replicas_with_noise_of_their_own_agree_on_average(mirrored, layer):
    one, two = (np.array(losses) for losses in mirrored["own_noise"][layer])
    error = np.sqrt(one.var() / len(one) + two.var() / len(two))
    assert 0 < abs(one.mean() - two.mean()) < 4 * error


@pytest.mark.parametrize("layer", ["dropout", "latent code"])
def test_replicas_do_not_repeat_the_noise_of_examples(mirrored, layer):
    """On a batch that is twice the same, repeated noise doubles the variance."""
    one, two = (np.array(losses) for losses in mirrored["own_noise"][layer])
    assert two.var() < 1.5 * one.var()


def test_rows_of_different_replicas_see_different_masks(mirrored):
    first, _, third, _ = np.array(mirrored["masks"])
    assert np.mean(first != third) > 0.2


@pytest.fixture(scope="module")
def host_devices():
    return results("host_devices.py")


@needs_jax
@pytest.mark.parametrize(
    ("one", "four"),
    [("one", "data"), ("one", "model"), ("ensemble_one", "ensemble_model")],
)
def test_four_devices_of_jax_are_one(host_devices, one, four):
    """Noise of examples, too: the step is one program over the whole batch."""
    one, four = host_devices[one], host_devices[four]
    assert (one["devices"], four["devices"]) == (1, 4)
    assert np.isfinite(one["losses"]).all()
    np.testing.assert_allclose(four["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(four["weights"], one["weights"], rtol=1e-4, atol=1e-6)


@needs_jax
def test_model_parallel_splits_the_posterior(host_devices):
    assert "posterior_raw_scale" in host_devices["model"]["split"]
    assert not host_devices["data"]["split"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def final_weights(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


@needs_jax
@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_two_processes_one_is_killed_and_training_resumes(tmp_path):
    """Then as if nothing had happened, and as in a single process."""
    alone = tmp_path / "alone"
    alone.mkdir()
    port = free_port()
    survivor = start("worker.py", 0, 2, port, tmp_path, 2)
    killed = start("worker.py", 1, 2, port, tmp_path, 2)
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors[-4000:]
    since = time.monotonic()
    _, errors = survivor.communicate(timeout=120)
    assert time.monotonic() - since < 120
    assert survivor.returncode not in (0, None)
    assert "closed by peer" in errors or "reset by peer" in errors, errors[-4000:]
    assert not list(tmp_path.glob("*.npz"))

    port = free_port()
    workers = [start("worker.py", i, 2, port, tmp_path) for i in range(2)]
    for worker in workers:
        output, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors[-4000:]
        # Gloo writes there, too.
        assert re.findall(r"epoch (\d+)", output) == ["2", "3"]

    single = start("worker.py", 0, 1, 0, alone)
    _, errors = single.communicate()
    assert single.returncode == 0, errors[-4000:]
    expected = final_weights(alone / "0_of_1.npz")
    first, second = (final_weights(tmp_path / f"{i}_of_2.npz") for i in range(2))
    for a, b, c in zip(expected, first, second, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
