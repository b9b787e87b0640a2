"""Values for things that may go: held weakly, and without a callback.

What `weakref` has for it is told by a callback that a thing is gone. That is a function in Python, and Python discards
what is raised in it, also by a signal handler of the program's that strikes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import ref

K = TypeVar("K")
V = TypeVar("V")


class WeakTable(Generic[K, V]):
    """A value for each of a few keys, which are told apart by identity. What is gone is let go of by the next `put`.

    No value may hold its key: both would stay.

    Example:
        >>> table = WeakTable[type, str]()
        >>> table.put(int, "a number")
        >>> table.get(int), table.get(str)
        ('a number', None)
    """

    __slots__ = ("__weakref__", "_entries")

    def __init__(self) -> None:
        self._entries: list[tuple[ref[K], V]] = []

    def __iter__(self) -> Iterator[K]:
        """Yield the keys that there are now."""
        return iter([key for known, _ in self._entries if (key := known()) is not None])

    def get(self, key: K) -> V | None:
        """Return the value of `key`; None where it has none."""
        for known, value in self._entries:
            if known() is key:
                return value
        return None

    def put(self, key: K, value: V) -> None:
        """Let `key` have `value`."""
        self._entries = [*self._others(key), (ref(key), value)]

    def drop(self, key: K) -> None:
        """Let `key` have no value."""
        self._entries = self._others(key)

    def _others(self, key: K) -> list[tuple[ref[K], V]]:
        found = [(entry, entry[0]()) for entry in self._entries]
        return [entry for entry, known in found if known is not None and known is not key]
