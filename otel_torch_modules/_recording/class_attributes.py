"""What a class has, read as Python keeps it: neither a metaclass nor a descriptor of the program's is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_dictionary = type.__dict__["__dict__"].__get__
_lookup_order = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualified = type.__dict__["__qualname__"].__get__

# Functions of C: once a step they cost nothing.
class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
"""Returns the name of a class."""

bases: Callable[[type], tuple[type, ...]] = type.__dict__["__bases__"].__get__
"""Returns what a class was made of."""


def full_name(cls: type) -> str:
    """Return the name of `cls` with that of the module in which it was written.

    Example:
        >>> full_name(bool)
        'builtins.bool'
    """
    return f"{_module(cls)}.{_qualified(cls)}"


def class_attribute(cls: type, name: str) -> Any:
    """Return what `cls`, or the first of its bases that has anything of that name, has; None where none has.

    Example:
        >>> class_attribute(bool, "real")
        <attribute 'real' of 'int' objects>
    """
    for base in _lookup_order(cls):
        found = _dictionary(base)
        if name in found:
            return found[name]
    return None
