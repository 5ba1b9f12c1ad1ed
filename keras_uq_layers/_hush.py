"""Hides the start-up log of TensorFlow from the output of the quick start.

Python imports this package before it runs `python -m keras_uq_layers`, and the
import loads TensorFlow, which writes its log straight to the file descriptor
of stderr. So the log must be hidden here, and only for this command.
"""

import os
import sys

if sys.argv[0] == "-m" and "keras_uq_layers" in sys.orig_argv:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
