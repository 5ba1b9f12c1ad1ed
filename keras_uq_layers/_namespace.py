"""What a public namespace shows, loads on first use, and answers (PEP 562)."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

_PACKAGE = "keras_uq_layers"


def define(module: str, lazy: Mapping[str, str] | None = None) -> None:
    """Makes a module show its `__all__` alone, and load some names on first use.

    Without this, `dir` and completion list every import and helper of the
    module beside its public names. A name that the module does not have is
    answered by the name to write instead, where there is one. Call it at the
    end of the module.

    Type checkers do not see the effect: a `__getattr__` in the source would
    make them accept every name. Import lazy names under
    `typing.TYPE_CHECKING`, too.

    Args:
        module: The `__name__` of the module.
        lazy: Dict from a name to the module that it is loaded from. A name
            that ends the module's own name is that module itself.
    """
    namespace = sys.modules[module]
    sources = dict(lazy or {})

    def get(name: str) -> Any:
        if name not in sources:
            message = f"module {module!r} has no attribute {name!r}{hint(name)}"
            raise AttributeError(message, name=name, obj=namespace)
        found = importlib.import_module(sources[name])
        if found.__name__ != f"{module}.{name}":
            found = getattr(found, name)
        setattr(namespace, name, found)
        return found

    def names() -> list[str]:
        special = [name for name in vars(namespace) if name.startswith("__")]
        return sorted({*namespace.__all__, *special})

    namespace.__dict__.update(__getattr__=get, __dir__=names)


def hint(name: str) -> str:
    """The end of an error on an unknown name: what to write instead, or nothing."""
    if name.startswith("_"):
        return ""
    # Here, since a program without a wrong name does not need the table.
    from keras_uq_layers import _other_names

    answer = _other_names.suggest(name) or ", ".join(_homes(name))
    return f". Here: {answer}" if answer else ""


def _homes(name: str) -> list[str]:
    """Where this package has a public name, such as "`uq.losses.CRPS`"."""
    package = sys.modules[_PACKAGE]
    homes = [f"`uq.{name}`"] if name in package.__all__ else []
    for space in package.__all__:
        # Found by its file: the value of a lazy name would be loaded.
        if importlib.util.find_spec(f"{_PACKAGE}.{space}"):
            module = importlib.import_module(f"{_PACKAGE}.{space}")
            if name in module.__all__:
                homes.append(f"`uq.{space}.{name}`")
    return homes
