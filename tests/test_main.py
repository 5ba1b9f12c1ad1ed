"""The quick start, as a user runs it."""

import os
import re
import subprocess
import sys

import pytest

from keras_uq_layers import __main__ as quickstart


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "keras_uq_layers", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.slow
def test_table_model_and_figure(tmp_path):
    done = run("--output", str(tmp_path), "--splits", "2")
    assert done.returncode == 0, done.stderr
    rows = dict(
        re.findall(
            r"^(\w+Head|constant normal) +(-?\d+\.\d+) ±", done.stdout, re.MULTILINE
        )
    )
    assert set(rows) == {"DistributionHead", "ConstantVarianceHead", "constant normal"}
    for head in ("DistributionHead", "ConstantVarianceHead"):
        assert float(rows[head]) < float(rows["constant normal"])
    assert "loaded in a fresh process, predictions are equal" in done.stdout
    assert "Epoch 1/30" in done.stdout
    assert (tmp_path / "quickstart.keras").stat().st_size > 0
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
