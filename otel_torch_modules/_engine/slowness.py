"""Which times of a series are slow, beside what has been usual of late."""

from __future__ import annotations

from collections import deque
from statistics import median_high

WINDOW = 64
"""So many times, the last ones, say what is usual: their upper median, so that of two that take turns the longer is."""

MOST = 10
"""A slow one is among the so many slowest of the last `WINDOW`: what comes more often is no exception."""

LEAST = 8
"""So many times have to be known: of fewer nobody knows whether they are those of a warm-up."""


class Slowness:
    """Tells the times that are slow. Those are too that begin a new level: the first `MOST` of it, then it is usual.

    Args:
        threshold: how many times what is usual a slow one takes.

    Example:
        >>> slowness = Slowness(1.5)
        >>> [slowness.of(time) for time in (9, 1, 1, 1, 1, 1, 1, 1, 2, 1)][-2:]
        [2.0, None]
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._in_a_row = 0

    def of(self, time: float) -> float | None:
        """Take in the next time; return how many times what is usual it is, where it is slow, else None."""
        usual = median_high(self._times) if len(self._times) >= LEAST else 0.0
        slow = 0.0 < usual * self._threshold < time
        told = slow and sum(other > time for other in self._times) < MOST
        self._times.append(time)
        self._in_a_row = self._in_a_row + 1 if slow else 0
        if self._in_a_row == MOST:
            self._begin_anew()
        return time / usual if told else None

    def _begin_anew(self) -> None:
        """Take the last times alone for what is usual."""
        level = list(self._times)[-MOST:]
        self._times.clear()
        self._times.extend(level)
        self._in_a_row = 0
