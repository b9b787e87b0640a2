"""How much of the time some stretches cover, what several cover counted once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Stretch = tuple[int, int]
"""From when to when, in ns."""


class Covered:
    """What some stretches of time cover, which may overlap.

    Example:
        >>> covered = Covered([(10, 30), (20, 40), (50, 60)])
        >>> covered.until(35), covered.until(100)
        (25, 40)
    """

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        self._starts, self._ends, self._sums = list[int](), list[int](), [0]
        for start, end in sorted(stretches):
            start = max(start, self._ends[-1] if self._ends else start)
            if start < end:
                self._starts.append(start)
                self._ends.append(end)
                self._sums.append(self._sums[-1] + end - start)

    @property
    def whole(self) -> int:
        """How much it is in all."""
        return self._sums[-1]

    def until(self, time: int) -> int:
        """Return how much of it lies before a time."""
        begun = bisect_right(self._starts, time)
        return self._sums[begun] - (max(self._ends[begun - 1] - time, 0) if begun else 0)
