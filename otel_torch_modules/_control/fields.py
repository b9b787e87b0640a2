"""Checks what a file of somebody else's says, field by field."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

_MOST_CHARACTERS = 1_000
_LARGEST = 1 << 53  # JSON's numbers are exact up to here, whoever has written them


class Fields:
    """The fields of a JSON object.

    All methods raise `ValueError`, naming the field, its value and what is allowed.

    Args:
        content: the object.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def only(self, names: Collection[str]) -> None:
        """Refuse all fields but these."""
        for name in self._content:
            if name not in names:
                raise ValueError(f"{_short(name)} is not known; there are {', '.join(names)}")

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._content.get(name)
        if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
            _refuse(name, value, f"a text of at most {_MOST_CHARACTERS} characters")
        return value

    def word(self, name: str, allowed: Collection[str]) -> str:
        """Return one of a few texts."""
        value = self._content.get(name)
        if not isinstance(value, str) or value not in allowed:
            _refuse(name, value, " or ".join(allowed))
        return value

    def integer(self, name: str, least: int) -> int:
        """Return an integer of at least `least`."""
        value = self._content.get(name)
        if type(value) is not int or not least <= value <= _LARGEST:
            _refuse(name, value, f"an integer from {least} to {_LARGEST}")
        return value

    def seconds(self, name: str) -> float:
        """Return a time that is none or more."""
        value = self._content.get(name)
        if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
            _refuse(name, value, "a number of at least 0")
        return float(value)  # type: ignore[arg-type]

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value = self._content.get(name)
        if type(value) is not bool:
            _refuse(name, value, "true or false")
        return value


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ValueError(f"{name}: {_short(value)} is not allowed; it must be {allowed}")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else "a list"
    return text if len(text) <= 60 else f"{text[:60]}…"
