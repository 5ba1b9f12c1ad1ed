"""Families of distributions: how a tensor of parameters is made and read."""

# ruff: noqa: F401  # the table makes the imports for type checkers public

import importlib
from typing import TYPE_CHECKING

import keras

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers import registration
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers.families._base import Family

if TYPE_CHECKING:
    from keras_uq_layers.families.bernoulli import Bernoulli
    from keras_uq_layers.families.beta import Beta
    from keras_uq_layers.families.categorical import Categorical
    from keras_uq_layers.families.censored_normal import CensoredNormal
    from keras_uq_layers.families.gamma import Gamma
    from keras_uq_layers.families.hurdle import Hurdle
    from keras_uq_layers.families.interval import Interval
    from keras_uq_layers.families.laplace import Laplace
    from keras_uq_layers.families.log_normal import LogNormal
    from keras_uq_layers.families.logistic import Logistic
    from keras_uq_layers.families.multivariate_normal import MultivariateNormal
    from keras_uq_layers.families.negative_binomial import NegativeBinomial
    from keras_uq_layers.families.normal import Normal
    from keras_uq_layers.families.normal_mixture import NormalMixture
    from keras_uq_layers.families.point import Point
    from keras_uq_layers.families.poisson import Poisson
    from keras_uq_layers.families.quantiles import Quantiles
    from keras_uq_layers.families.student_t import StudentT
    from keras_uq_layers.families.truncated_normal import TruncatedNormal
    from keras_uq_layers.families.weibull import Weibull
    from keras_uq_layers.families.zero_inflated import ZeroInflated

# Every family, in the order of the catalogue: its name, which is that of its
# file, and its class. A file is loaded on first use.
_CLASSES = {
    "normal": "Normal",
    "laplace": "Laplace",
    "logistic": "Logistic",
    "student_t": "StudentT",
    "log_normal": "LogNormal",
    "gamma": "Gamma",
    "weibull": "Weibull",
    "beta": "Beta",
    "poisson": "Poisson",
    "negative_binomial": "NegativeBinomial",
    "zero_inflated": "ZeroInflated",
    "hurdle": "Hurdle",
    "censored_normal": "CensoredNormal",
    "truncated_normal": "TruncatedNormal",
    "normal_mixture": "NormalMixture",
    "multivariate_normal": "MultivariateNormal",
    "quantiles": "Quantiles",
    "interval": "Interval",
    "point": "Point",
    "bernoulli": "Bernoulli",
    "categorical": "Categorical",
}
# Families with a required argument, and how to write them.
_AS_OBJECT = {
    "interval": 'families.Interval("normal")',
    "zero_inflated": 'families.ZeroInflated("poisson")',
    "hurdle": 'families.Hurdle("poisson")',
    "normal_mixture": "families.NormalMixture(components=5)",
    "quantiles": "families.Quantiles(levels=[0.1, 0.5, 0.9])",
}
_BY_NAME = [name for name in _CLASSES if name not in _AS_OBJECT]

__all__ = ["Family", "get", "serialize", *_CLASSES.values()]


def class_of(name: str) -> type[Family]:
    """The class of a family, from the name of the family."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), _CLASSES[name])


def classes() -> list[type[Family]]:
    """The classes of all families, in the order of the catalogue."""
    return [class_of(name) for name in _CLASSES]


def get(identifier: Identifier) -> Family:
    """The family of that name, or the family itself.

    Args:
        identifier: A name such as `"normal"`, a `Family`, or the serialized
            form of one.

    Returns:
        A `Family`.

    Raises:
        ValueError: No such family; the message lists the names.

    Example:

    >>> uq.families.get("laplace")
    Laplace()
    """
    if isinstance(identifier, Family):
        return identifier
    if isinstance(identifier, dict):
        family = keras.saving.deserialize_keras_object(identifier)
        if isinstance(family, Family):
            return family
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return class_of(identifier)()
    if isinstance(identifier, str) and identifier in _AS_OBJECT:
        raise ValueError(
            f"The family {identifier!r} has an argument: `family` must be an object "
            f"such as `{_AS_OBJECT[identifier]}`. Received: family={identifier!r}"
        )
    names = ", ".join(repr(name) for name in sorted(_BY_NAME))
    raise ValueError(
        f"`family` must be one of {names} or a `families.Family` object. "
        f"Received: family={identifier!r}{_namespace.hint(str(identifier))}"
    )


def parameterization(family: Family, name: str | None) -> str | None:
    """The parameterization of that name, or the default of the family.

    Args:
        family: A `Family`.
        name: Name of a parameterization, or None for the default.

    Returns:
        The name; None where the family has no choice.

    Raises:
        ValueError: The family does not have it.
    """
    options = family.parameterizations
    if options and name is not None:
        return arguments.one_of("parameterization", name, options)
    if options or name is None:
        return next(iter(options), None)
    having = ", ".join(repr(cls.name) for cls in classes() if cls.parameterizations)
    raise arguments.error(
        "parameterization",
        f"None for the family {family.name!r}; families with a choice are {having}",
        name,
    )


def serialize(family: Family | str | None) -> Config | str | None:
    """The form of a family in a config, understood by `get`.

    Args:
        family: A `Family`, or its name, or None.

    Returns:
        Dict; a name and None are their own serialized form.
    """
    if family is None or isinstance(family, str):
        return family
    return keras.saving.serialize_keras_object(family)


_namespace.define(
    __name__,
    lazy={cls: f"{__name__}.{name}" for name, cls in _CLASSES.items()},
)
for _name, _class in _CLASSES.items():
    registration.on_first_use(f"{__name__}.{_name}", [f"families.{_class}"])
