"""Functions of torch's that are wrapped also where the program has imported them by name before.

``from torch.distributed import destroy_process_group`` gives a module a name of its own for the function. Where tracing
begins after that, such names are turned to the wrapper, and where it ends back, those too that came meanwhile. A module
is looked at for the functions' own names alone, the main one for others too: there may be thousands of modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from otel_torch_modules._recording.wrapped import Wrapped, uninstall_all


def put_on(functions: Sequence[Wrapped]) -> None:
    """Install all of them, also where they have been imported by name."""
    for wrapped in functions:
        wrapped.install()
    _turn((wrapped.name, wrapped.original, wrapped.wrapper) for wrapped in functions)


def take_off(functions: Sequence[Wrapped]) -> None:
    """Undo `put_on`."""
    back = [(wrapped.name, wrapped.wrapper, wrapped.original) for wrapped in functions]
    try:
        uninstall_all(functions)
    finally:
        _turn(back)


def _turn(functions: Iterable[tuple[str, Any, Any]]) -> None:
    """Have names that mean the first function of one of these pairs mean the second."""
    turned = [function for function in functions if function[1] is not None]
    for names in _namespaces_with([name for name, _, _ in turned]):
        for name, old, new in turned:
            if names.get(name) is old:
                names[name] = new
    main = vars(sys.modules["__main__"])
    for name, value in list(main.items()):
        for _, old, new in turned:
            if value is old:
                main[name] = new


def _namespaces_with(names: list[str]) -> list[dict[str, Any]]:
    """Return what the modules define that have any of `names`.

    In a set these would be compared the other way round, by what another thread may add to a module meanwhile.
    """
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return [vars(each) for each in modules if not vars(each).keys().isdisjoint(names)]
