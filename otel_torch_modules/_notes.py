"""What the program says of one of our spans in a row: it may do so in each of a million iterations of one step."""

from __future__ import annotations

from typing import Any, Final

MOST: Final = 1_000
"""Of each kind the latest that are kept at least; the SDK keeps 128 unless it is told otherwise."""

_ATTRIBUTES: Final = "set_attributes"

_Said = tuple[str, tuple[Any, ...], int]
"""Method of the span, arguments, time."""


class Notes:
    """Those of one thread between which nothing else happened in it: they are of one span."""

    __slots__ = ("_attributes", "_others", "_time")

    def __init__(self) -> None:
        self._attributes: dict[str, Any] = {}
        self._time = 0  # of the last of them
        self._others: dict[str, list[_Said]] = {}

    def add(self, method: str, arguments: tuple[Any, ...], time: int) -> None:
        """Keep one more. Of the attributes the latest values are kept, as a span does."""
        if method != _ATTRIBUTES:
            alike = self._others.setdefault(method, [])
            alike.append((method, arguments, time))
            if len(alike) >= 2 * MOST:
                del alike[:MOST]
            return
        self._time = time
        kept = self._attributes
        for name, value in arguments[0].items():
            kept.pop(name, None)
            kept[name] = value
        while len(kept) > MOST:
            del kept[next(iter(kept))]

    def in_order(self) -> list[_Said]:
        """Return what is to be said to the span; the thread may add some meanwhile."""
        said = [one for alike in list(self._others.values()) for one in list(alike)]
        if self._attributes:
            said.append((_ATTRIBUTES, (self._attributes.copy(),), self._time))
        return sorted(said, key=lambda one: one[2])
