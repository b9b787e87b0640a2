"""What a class has, read as Python keeps it: neither a metaclass nor a descriptor of the program's is asked."""

from __future__ import annotations

from typing import Any

_dictionary = type.__dict__["__dict__"].__get__
_bases = type.__dict__["__mro__"].__get__


def class_attribute(cls: type, name: str) -> Any:
    """Return what `cls`, or the first of its bases that has anything of that name, has; None where none has.

    Example:
        >>> class_attribute(bool, "real")
        <attribute 'real' of 'int' objects>
    """
    for base in _bases(cls):
        found = _dictionary(base)
        if name in found:
            return found[name]
    return None
