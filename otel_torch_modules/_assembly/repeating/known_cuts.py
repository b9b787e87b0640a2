"""Logs cut down to their phases without reading them: steps of a loop most often do the same as one before.

Where the same happened in the same threads, the phases stand at the same places. Of numbers those at these places are
compared. What lies between two marks that stayed belongs where they do: a backward goes through the numbers of a thread
from the highest to the lowest.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from operator import sub
from typing import Any

from otel_torch_modules._engine.phases import places_of_phases
from otel_torch_modules._events import MARK, TASK, TASK_END, WIDTH, Slot, event_of
from otel_torch_modules._spans.columns import pick

# A loop has a few kinds of steps, such as that of its last batch.
_MOST_KNOWN = 8
_MOST_SLOTS = 1_000_000


class KnownCuts:
    """Cuts logs down as `cut_to_phases` does."""

    def __init__(self) -> None:
        self._known: deque[_Known] = deque()  # the one seen last first

    def cut(self, log: list[Any]) -> list[Any]:
        """Return the events of `log` that a step of phases has."""
        tags, threads = log[::WIDTH], log[1::WIDTH]
        for place, known in enumerate(self._known):
            if known.fits(log, tags, threads):
                del self._known[place]
                self._known.appendleft(known)
                return known.phases_of(log)
        places = places_of_phases(log)
        phases = [slot for place in places for slot in log[place : place + WIDTH]]
        if _may_come_again(log, tags, places):
            self._known.appendleft(_Known(log, tags, threads, places))
            while len(self._known) > 1 and (
                len(self._known) > _MOST_KNOWN
                or sum(known.length for known in self._known) > _MOST_SLOTS
            ):
                self._known.pop()
        return phases


def _may_come_again(log: list[Any], tags: list[Any], places: list[int]) -> bool:
    """Return whether all is said by one thread's numbers, some of which stay, and by nothing that has an id."""
    if not all(event_of(tag).repeats for tag in set(tags)):
        return False
    numbered = [place for place in range(0, len(log), WIDTH) if _has_number(log, place)]
    threads = {log[place + 1] for place in numbered}
    return len(threads) == 1 and any(_has_number(log, place) for place in places)


def _has_number(log: list[Any], place: int) -> bool:
    return event_of(log[place]).slot is Slot.NUMBER


class _Known:
    """Where the phases stand in logs like one that was read. All its numbers are of one thread."""

    __slots__ = (
        "_numbers",
        "_pick",
        "_pick_numbers",
        "_pick_tasks",
        "_tags",
        "_tasks",
        "_threads",
        "length",
    )

    def __init__(
        self, log: list[Any], tags: list[Any], threads: list[int], places: list[int]
    ) -> None:
        self.length = len(log)
        self._tags = tags
        self._threads = threads
        self._pick = pick([slot for place in places for slot in range(place, place + WIDTH)])
        tasks = [place * WIDTH for place, tag in enumerate(tags) if tag in (TASK, TASK_END)]
        marks = [place for place in places if log[place] is MARK]
        self._pick_tasks = pick(
            [place + 2 for place in tasks] + [place + 4 for place in (*tasks, *marks)]
        )
        self._tasks = self._pick_tasks(log)
        self._pick_numbers = pick([place + 2 for place in places if _has_number(log, place)])
        self._numbers = self._relative(log)

    def fits(self, log: list[Any], tags: list[Any], threads: list[int]) -> bool:
        """Return whether the phases of `log` stand there."""
        return (
            len(log) == self.length
            and tags == self._tags
            and threads == self._threads
            and self._pick_tasks(log) == self._tasks
            and self._relative(log) == self._numbers
        )

    def phases_of(self, log: list[Any]) -> list[Any]:
        """Return the events that stand there."""
        return list(self._pick(log))

    def _relative(self, log: list[Any]) -> list[int]:
        """Return the numbers of the phases, counted from the first."""
        numbers = self._pick_numbers(log)
        return list(map(sub, numbers, repeat(numbers[0])))
