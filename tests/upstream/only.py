"""Which backend a reproduction is for."""

import keras
import pytest


def only(*backends):
    return pytest.mark.skipif(
        keras.backend.backend() not in backends,
        reason=f"a fault of Keras on {' and '.join(backends)}",
    )
