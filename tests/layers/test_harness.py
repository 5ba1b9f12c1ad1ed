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


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="which classes are registered does not depend on the backend; the harness "
    "loads each layer, and test_a_file_travels loads files in other processes",
)
def test_all_layers_load_in_a_fresh_process(tmp_path):
    """With safe mode, without custom objects, with the outputs they had: one model."""
    arrays = [
        case.expect.get("make_input", generic_input)(case.input_shape) for case in CASES
    ]
    inputs = [keras.Input(case.input_shape[1:]) for case in CASES]
    outputs = [case.make()(x) for case, x in zip(CASES, inputs, strict=True)]
    model = keras.Model(inputs, outputs)
    model(arrays)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", *arrays)
    script = (
        "import sys, keras, numpy as np, keras_uq_layers\n"
        "folder = sys.argv[1]\n"
        "model = keras.saving.load_model(f'{folder}/model.keras', safe_mode=True)\n"
        "arrays = np.load(f'{folder}/inputs.npz')\n"
        "outputs = model([arrays[name] for name in arrays.files])\n"
        "outputs = map(keras.ops.convert_to_numpy, outputs)\n"
        "np.savez(f'{folder}/outputs.npz', *outputs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    expected = map(keras.ops.convert_to_numpy, model(arrays))
    with np.load(tmp_path / "outputs.npz") as found:
        assert len(found.files) == len(CASES)
        for case, name, y in zip(CASES, found.files, expected, strict=True):
            np.testing.assert_allclose(
                found[name], y, rtol=1e-5, atol=1e-6, err_msg=case.id
            )


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
