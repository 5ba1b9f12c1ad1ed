"""Both sides of a ratio in turn, in one process: what the benchmarks share."""

import platform
import time

import keras
import numpy as np


def interleaved(functions, rounds, repeats=1, clock=time.perf_counter):
    """Seconds of each function, one value a round.

    In a round every function runs in turn, in an order that alternates, so
    that other work on the machine changes the times more than their ratios.

    Args:
        functions: Dict from name to a function without arguments, which
            returns when its work is done.
        rounds: Number of rounds.
        repeats: Calls of a function in a round, timed together.
        clock: The clock, in seconds: that of the wall, or `time.process_time`.

    Returns:
        Dict from name to an array `(rounds,)`.
    """
    for function in functions.values():
        function()
        function()
    times = {name: np.zeros(rounds) for name in functions}
    for i in range(rounds):
        names = list(functions)
        for name in names if i % 2 else reversed(names):
            start = clock()
            for _ in range(repeats):
                functions[name]()
            times[name][i] = (clock() - start) / repeats
    return times


def ratio(times, base):
    """Text: median of the ratio within a round, and its quartiles."""
    low, middle, high = np.percentile(times / base, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def versions():
    return (
        f"{keras.backend.backend()} backend, Keras {keras.__version__}, NumPy "
        f"{np.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}"
    )
