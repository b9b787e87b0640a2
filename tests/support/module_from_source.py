"""A module of any name, made from its source."""

from __future__ import annotations

from types import ModuleType


def module_from_source(name: str, source: str) -> ModuleType:
    """Return a module of this name, whatever is called so else; its file is one of no folder that there is."""
    module = ModuleType(name)
    exec(compile(source, f"/somewhere/{name.replace('.', '/')}.py", "exec"), vars(module))
    return module
