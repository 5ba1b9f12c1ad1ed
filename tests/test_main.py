"""The quick start, as a user runs it."""

import os
import re
import subprocess
import sys

import pytest

from keras_uq_layers import __main__ as quickstart


@pytest.mark.slow
def test_table_model_and_figure(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "keras_uq_layers", "--output", tmp_path, "--splits=1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    name = r"(no inputs|constant scale|normal head)"
    rows = re.findall(rf"^{name} +(-?\d+\.\d+) ±", done.stdout, re.MULTILINE)
    nll = {row: float(value) for row, value in rows}
    # On this split: 7.27, 6.81 and 5.95 nats.
    assert nll["normal head"] + 0.5 < nll["constant scale"] < nll["no inputs"] - 0.3
    assert len(re.findall(r"^split 1 of 1, .* nats$", done.stdout, re.MULTILINE)) == 2
    assert "loaded in a fresh process, predictions are equal" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "quickstart.keras",
        "quickstart.png",
    }
    assert (tmp_path / "quickstart.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(SystemExit) as stopped:
        quickstart.main(["--output", str(blocked)])
    message = str(stopped.value)
    assert message.startswith(f"error: cannot write to the output folder {blocked}")
    assert "\n" not in message


def test_help_and_bad_options(capsys):
    with pytest.raises(SystemExit, match="0"):
        quickstart.parse(["--help"])
    text = capsys.readouterr().out
    for option in ("--output", "--epochs", "--seed", "--splits"):
        assert option in text
    with pytest.raises(SystemExit, match="2"):
        quickstart.parse(["--epochs", "0"])
    assert "must be at least 1, received 0" in capsys.readouterr().err
