"""Checks of constructor arguments, and the one wording of their errors."""

import itertools
import math
import numbers


def error(name, rule, value):
    """A `ValueError` in the wording of Keras."""
    return ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")


def positive_int(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise error(name, "a positive integer", value)
    return int(value)


def positive_float(name, value):
    if not _is_finite(value) or value <= 0:
        raise error(name, "a positive finite number", value)
    return float(value)


def non_negative_float(name, value):
    if not _is_finite(value) or value < 0:
        raise error(name, "a non-negative finite number", value)
    return float(value)


def probability(name, value):
    if not _is_finite(value) or not 0 <= value <= 1:
        raise error(name, "a number between 0 and 1", value)
    return float(value)


def open_probability(name, value):
    """A probability that is neither 0 nor 1."""
    if not _is_finite(value) or not 0 < value < 1:
        raise error(name, "inside (0, 1)", value)
    return float(value)


def levels(name, value):
    """Increasing probabilities in (0, 1), as a tuple of floats."""
    rule = "increasing probabilities in (0, 1), at least one"
    try:
        found = tuple(float(level) for level in value)
    except TypeError:
        raise error(name, rule, value) from None
    inside = all(0 < level < 1 for level in found)
    pairs = itertools.pairwise(found)
    if not found or not inside or not all(a < b for a, b in pairs):
        raise error(name, rule, value)
    return found


def one_of(name, value, options):
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise error(name, f"one of {listed}", value)
    return value


def boolean(name, value):
    if not isinstance(value, bool):
        raise error(name, "True or False", value)
    return value


def _is_finite(value):
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
