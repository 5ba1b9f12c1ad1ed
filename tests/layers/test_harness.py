"""Every public layer goes through the harness, and none can be forgotten."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_cases import CASES
from layer_cases import public_layers

from keras_uq_layers.testing import check_layer
from keras_uq_layers.testing import generic_input


def test_every_public_layer_has_a_case():
    assert public_layers() == {case.layer for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_harness(case):
    check_layer(case.make, case.input_shape, **case.expect)


def test_all_layers_load_in_a_fresh_process(tmp_path):
    """With safe mode, without custom objects, with the outputs they had."""
    for i, case in enumerate(CASES):
        make_input = case.expect.get("make_input", generic_input)
        x = make_input(case.input_shape)
        model = keras.Sequential([case.make()])
        model(x)
        model.save(tmp_path / f"{i}.keras")
        np.savez(tmp_path / f"{i}.npz", x=x, y=keras.ops.convert_to_numpy(model(x)))
    script = (
        "import sys, keras, numpy as np, keras_uq_layers\n"
        "for i in range(int(sys.argv[2])):\n"
        "    path = f'{sys.argv[1]}/{i}.keras'\n"
        "    model = keras.saving.load_model(path, safe_mode=True)\n"
        "    data = np.load(f'{sys.argv[1]}/{i}.npz')\n"
        "    y = keras.ops.convert_to_numpy(model(data['x']))\n"
        "    np.testing.assert_allclose(y, data['y'], rtol=1e-5, atol=1e-6)\n"
        "print('loaded', i + 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(len(CASES))],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    assert f"loaded {len(CASES)}" in done.stdout


def broken(**kwargs):
    return keras.layers.Lambda(lambda x: x * float("nan"), **kwargs)


class Forgetful(keras.layers.Layer):
    """A layer whose weight never reaches its output."""

    def build(self, input_shape):
        self.gain = self.add_weight(shape=())
        self.w = self.add_weight(shape=())

    def call(self, inputs):
        return self.gain * inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def test_the_harness_can_fail():
    with pytest.raises(ValueError, match="Lambda"):
        check_layer(broken, jit_compile=False)
    keras.saving.get_custom_objects()["Forgetful"] = Forgetful
    with pytest.raises(AssertionError, match="no gradient"):
        check_layer(Forgetful, jit_compile=False)
    del keras.saving.get_custom_objects()["Forgetful"]
