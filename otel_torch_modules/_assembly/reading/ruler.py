"""The autograd sequence number as a ruler: which call made the node with this number?

Each thread has a counter of its own that only grows, so the nodes that a call made are those between its value
before and its value after, and these ranges nest because calls nest.
"""

from __future__ import annotations

import sys
from bisect import bisect_right

from otel_torch_modules._assembly.reading.call import Call


class Ruler:
    """The numbers of one thread in one record."""

    __slots__ = ("_bounds", "_owners")

    def __init__(self) -> None:
        self._bounds: list[int] = []  # never falls
        self._owners: list[Call | None] = []  # innermost call from that number on

    def turn(self, number: int, owner: Call | None) -> None:
        """From `number` on nodes are made by `owner`, or outside all calls."""
        self._bounds.append(number)
        self._owners.append(owner)

    def starts_by(self, number: int) -> bool:
        """Return whether `number` is not below all numbers of this ruler."""
        return bool(self._bounds) and self._bounds[0] <= number

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first turn, and the number from which on no call makes nodes; None where there is no turn."""
        if not self._bounds:
            return None
        return self._bounds[0], self._bounds[-1] if self._owners[-1] is None else sys.maxsize

    def owner(self, number: int) -> Call | None:
        """Return the innermost call that made the node with this number."""
        place = bisect_right(self._bounds, number)
        return self._owners[place - 1] if place else None
