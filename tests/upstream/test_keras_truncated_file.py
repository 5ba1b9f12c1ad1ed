"""Keras 3.15.1 says of a truncated `.keras` file that it was not found.

`load_model` asks `zipfile.is_zipfile` and takes "no" for "no such file". Seen
with keras 3.15.1, on every backend. When this fails, adapt the message that
`test_saved_files.py` expects of a truncated file.
"""

import keras
import pytest


def test_a_truncated_file_is_not_found(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="File not found"):
        keras.saving.load_model(path)
