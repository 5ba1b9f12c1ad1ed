"""Executes the notebooks and stores their outputs and their pictures.

    python notebooks/execute.py [NAME ...]

All of them by default, each from the beginning in a fresh process. The figure of
the cell with the tag "picture" is also stored in `notebooks/pictures/`: the
notebook opens with it, and the pages of the site show it.
"""

import base64
import json
import os
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# What the libraries themselves write: at the start of a process, and where one
# notebook calls many models.
STARTUP = re.compile(
    r"^(WARNING: All log messages before absl|[IWE]\d{4} "
    r"|WARNING:tensorflow:\d+ out of the last ).*\n?",
    re.M,
)


def execute(path, seconds=None):
    """The notebook with fresh outputs; raises if a cell does.

    Args:
        path: Of the notebook.
        seconds: Time limit of a cell, or None.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    # Not the matplotlib backend of the caller: the kernel chooses one for pictures.
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environment |= {
        "PYTHONPATH": str(HERE.parent),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=environment)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = STARTUP.sub("", output.text)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("text", "...")]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    return notebook


def picture(notebook):
    """The bytes of the figure that the notebook opens with."""
    (image,) = (
        output.data["image/png"]
        for cell in notebook.cells
        if "picture" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    )
    return base64.b64decode(image)


def main(names):
    import nbformat

    for path in sorted(HERE.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        print(path.stem, flush=True)
        notebook = execute(path)
        text = json.loads(nbformat.writes(notebook))
        path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n")
        (HERE / "pictures" / f"{path.stem}.png").write_bytes(picture(notebook))


if __name__ == "__main__":
    main([Path(name).stem for name in sys.argv[1:]])
