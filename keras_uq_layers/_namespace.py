"""What a public namespace shows, and what it loads on first use (PEP 562)."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any


def define(module: str, lazy: Mapping[str, str] | None = None) -> None:
    """Makes a module show its `__all__` alone, and load some names on first use.

    Without this, `dir` and completion list every import and helper of the
    module beside its public names. Call it at the end of the module. Type
    checkers see the lazy names through `typing.TYPE_CHECKING`, as everything
    else of the module: a `__getattr__` in the source would hide typing errors.

    Args:
        module: The `__name__` of the module.
        lazy: Dict from a name to the module that it is loaded from. A name
            that ends the module's own name is that module itself.
    """
    namespace = sys.modules[module]
    sources = dict(lazy or {})

    def get(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        source = importlib.import_module(sources[name])
        found = source
        if source.__name__ != f"{module}.{name}":
            found = getattr(source, name)
        setattr(namespace, name, found)
        return found

    def names() -> list[str]:
        special = [name for name in vars(namespace) if name.startswith("__")]
        return sorted({*namespace.__all__, *special})

    namespace.__dict__.update(__getattr__=get, __dir__=names)
