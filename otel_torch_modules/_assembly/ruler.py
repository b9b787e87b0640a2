"""The autograd sequence number as a ruler: which call made the node with this number?

Each thread has a counter of its own that only grows, so the nodes that a call made are those between its value
before and its value after, and these ranges nest because calls nest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from otel_torch_modules._assembly.call import Call

# How many finished records are kept, for backwards that come after the step of their forward. A backward
# through an older forward is counted, not shown.
_STEPS_KEPT = 2
_EVALUATIONS_KEPT = 1


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
    def start(self) -> int:
        """The number of the first turn."""
        return self._bounds[0]

    def owner(self, number: int) -> Call | None:
        """Return the innermost call that made the node with this number."""
        place = bisect_right(self._bounds, number)
        return self._owners[place - 1] if place else None


class Rulers:
    """The rulers of all threads, of the record that is being assembled and of the last ones before it."""

    def __init__(self) -> None:
        self._now: dict[int, Ruler] = {}
        self._steps: deque[dict[int, Ruler]] = deque(maxlen=_STEPS_KEPT)
        self._evaluations: deque[dict[int, Ruler]] = deque(maxlen=_EVALUATIONS_KEPT)

    def begin(self, is_step: bool) -> None:
        """Start the rulers of another record."""
        self._now = {}
        (self._steps if is_step else self._evaluations).append(self._now)

    def of(self, thread: int) -> Ruler:
        """Return the ruler of a thread in the current record."""
        ruler = self._now.get(thread)
        if ruler is None:
            ruler = self._now[thread] = Ruler()
        return ruler

    def find(self, thread: int, number: int) -> Ruler | None:
        """Return the ruler on which `number` lies, or None where that is not kept any more."""
        ruler = self._now.get(thread)
        if ruler is not None and ruler.starts_by(number):
            return ruler
        kept = [past[thread] for past in (*self._steps, *self._evaluations) if thread in past]
        kept = [ruler for ruler in kept if ruler.starts_by(number)]
        return max(kept, key=lambda ruler: ruler.start, default=None)
