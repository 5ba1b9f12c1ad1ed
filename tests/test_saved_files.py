"""What any version has saved loads in every later one; what is broken says so.

`saved/write.py` writes the files and says what is in them.
"""

import inspect
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from backend import to_numpy
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from saved import write

import keras_uq_layers as uq

FOLDERS = sorted(
    (path for path in write.HERE.iterdir() if path.name[0].isdigit()),
    key=lambda path: [int(part) for part in path.name.split(".")],
)
NEWEST = FOLDERS[-1]


def registered_names(config):
    """The registered names of this package in a config, at any depth."""
    if isinstance(config, dict):
        if str(config.get("registered_name")).startswith("keras_uq_layers>"):
            yield config["registered_name"]
        for value in config.values():
            yield from registered_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from registered_names(value)


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def saved_calibrators(folder):
    return json.loads((folder / "calibrators.json").read_text())


def load(path):
    return keras.saving.load_model(path, safe_mode=True)


def test_the_newest_version_has_a_file_of_every_public_class():
    names = set(registered_names(saved_calibrators(NEWEST)))
    for path in NEWEST.glob("*.keras"):
        names |= set(registered_names(config_of(path)))
    missing = set(uq.custom_objects()) - names
    assert not missing, f"raise the version and run tests/saved/write.py: {missing}"


def check_model(path):
    model = load(path)
    with np.load(path.with_suffix(".npz")) as seen:
        seen = dict(seen)
    found = write.outputs(model, seen["x"])
    if "logs" in seen:
        model.run_eagerly = True  # the same numbers, in less time
        found["logs"] = write.evaluate(model, seen["x"], seen["y"])
    random = (seen["first"] != seen["second"]).any()
    for name, value in found.items():
        if random and keras.backend.backend() != "tensorflow":
            # Each backend turns the same state into other numbers.
            assert value.shape == seen[name].shape
            assert np.isfinite(value).all()
        else:
            np.testing.assert_allclose(value, seen[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_model_does_what_it_did(folder):
    failed = {}
    for path in sorted(folder.glob("*.keras")):
        try:
            check_model(path)
        except Exception as error:
            failed[path.name] = error
    assert not failed


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_calibrator_does_what_it_did(folder):
    for config in saved_calibrators(folder):
        calibrator = keras.saving.deserialize_keras_object(config)
        assert calibrator.get_config() == config["config"]


def test_what_a_version_has_written_is_not_written_again(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(uq, "__version__", NEWEST.name)
    with pytest.raises(SystemExit, match="never written again"):
        write.main()


# Damaged files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file with a layer of ours, and another path to write to."""
    folder = tmp_path_factory.mktemp("damaged")
    layer = uq.DenseVariational(2, kl_weight=0.1, name="random")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.save(folder / "model.keras")
    return (folder / "model.keras").read_bytes(), folder / "damaged.keras"


def rewritten(content, member, change):
    """The archive with one member changed, or left out where that is None."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            data = change(data) if name == member else data
            if data is not None:
                new.writestr(name, data)
    return buffer.getvalue()


def edited(content, edit):
    """The archive with its weights changed by a function of the HDF5 file."""

    def change(data):
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            edit(file["layers/dense_variational/vars"])
        return buffer.getvalue()

    return rewritten(content, "model.weights.h5", change)


@settings(max_examples=20)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_an_error(saved, share):
    content, path = saved
    path.write_bytes(content[: int(share * len(content))])
    # The words are those of Keras, see `upstream/test_keras_truncated_file.py`.
    with pytest.raises(ValueError, match=r"ensure the file is an accessible .* zip"):
        load(path)


@settings(max_examples=20)
@given(share=st.floats(0, 1), bit=st.integers(0, 7))
def test_no_bit_of_the_weights_is_lost_in_silence(saved, share, bit):
    content, path = saved
    start = content.index(b"\x89HDF")
    end = content.index(b"PK\x01\x02")
    damaged = bytearray(content)
    damaged[start + int(share * (end - 1 - start))] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(zipfile.BadZipFile, match=r"CRC.*model\.weights\.h5"):
        load(path)


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("config.json", lambda data: None, r"config\.json"),
        ("config.json", lambda data: data[:500], "Unterminated string"),
        ("model.weights.h5", lambda data: None, r"Expected a model\.weights\.h5"),
        ("model.weights.h5", lambda data: data[:500], "truncated file"),
    ],
)
def test_a_damaged_part_is_named(saved, member, change, message):
    content, path = saved
    path.write_bytes(rewritten(content, member, change))
    with pytest.raises((KeyError, ValueError, OSError), match=message):
        load(path)


def without(name):
    def edit(variables):
        del variables[name]

    return edit


def too_short(name):
    def edit(variables):
        del variables[name]
        variables[name] = np.ones(1, "float32")

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("1"), "'random' expected 4 variables, but received 3"),
        (too_short("0"), "name=random.*kernel"),
        (too_short("seed_state_0"), "name=random.*seed_generator_state"),
    ],
)
def test_damaged_weights_name_the_layer(saved, edit, message):
    content, path = saved
    path.write_bytes(edited(content, edit))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(path)


def test_a_file_without_the_noise_stream_loads(saved):
    content, path = saved
    path.write_bytes(edited(content, without("seed_state_0")))
    assert np.isfinite(to_numpy(load(path)(np.ones((1, 3), "float32")))).all()


# Configs


def configs():
    """One serialized object for each public class, from the saved files."""
    found = {}

    def collect(config):
        if isinstance(config, dict):
            found.setdefault(config.get("registered_name"), config)
            for value in config.values():
                collect(value)
        elif isinstance(config, list):
            for value in config:
                collect(value)

    collect(saved_calibrators(NEWEST))
    for path in sorted(NEWEST.glob("*.keras")):
        collect(config_of(path))
    return {name: found[name] for name in uq.custom_objects() if name in found}


CONFIGS = configs()


def required_keys(cls, config):
    """The keys without which `from_config` can make no object."""
    parameters = inspect.signature(cls.__init__).parameters
    for key in config:
        default = parameters[key].default if key in parameters else key
        # None is the default that leads to an explanation of `kl_weight`.
        if default is inspect.Parameter.empty or (key, default) == ("kl_weight", None):
            yield key
    if cls is uq.Ensemble:
        yield "models"


def error_of(config):
    """The text of the error that loading it gives, less the config in it."""
    with pytest.raises((TypeError, ValueError)) as error:
        keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    text = str(error.value)
    before, _, after = text.partition("config={")
    return before + after.rpartition("Exception encountered: ")[2]


def check_message(name, config, key):
    message = error_of({**CONFIGS[name], "config": config})
    assert name.split(">")[-1].split(".")[-1] in message, (name, message)
    assert key in message, (name, message)


def test_an_unknown_key_is_named_with_its_class():
    for name, config in CONFIGS.items():
        check_message(name, {**config["config"], "bogus": 1}, "bogus")


def test_a_missing_key_is_named_with_its_class():
    checked = 0
    for name, config in CONFIGS.items():
        config = config["config"]
        for key in required_keys(uq.custom_objects()[name], config):
            check_message(name, {k: v for k, v in config.items() if k != key}, key)
            checked += 1
    assert checked > len(uq.__all__) / 2


def test_a_typing_error_inside_a_model_is_named(saved):
    content, path = saved
    path.write_bytes(
        rewritten(
            content,
            "config.json",
            lambda data: data.replace(b'"estimator"', b'"estimater"'),
        )
    )
    with pytest.raises(TypeError, match=r"DenseVariational: \{'estimater'"):
        load(path)
