"""A log cut down to what a step of phases only has: the calls of root modules, backward passes, optimizers, waits.

So a step keeps its place and its times where there is no room for its modules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Any

from otel_torch_modules._records import (
    EXIT,
    EXIT_BARE,
    MARK,
    TASK,
    TASK_END,
    WIDTH,
    Site,
    event_of,
)


def cut_to_phases(log: list[Any]) -> list[Any]:
    """Return the events of `log` that are not about modules below the roots.

    Where the program has spans or notes of its own, all events: these may belong to modules.
    """
    tags = log[::WIDTH]
    if not all(event_of(tag).repeats for tag in set(tags)):
        return log
    kept: list[Any] = []
    depths: defaultdict[int, int] = defaultdict(int)  # of calls, by thread
    tasks: dict[int, int] = {}  # those that run, and in which thread
    inner: set[int] = set()  # of these, those that run inside another: checkpoints do that
    roots = _Roots()
    before: list[Any] = []  # the last mark, where it was left out
    owner: object = None  # of the last mark
    for at, tag in zip(range(0, len(log), WIDTH), tags, strict=True):
        event = log[at : at + WIDTH]
        thread = event[1]
        if tag is MARK:
            if event[4] in inner:
                continue
            found = (event[4], roots.owner(thread, event[2]))
            if found == owner:
                before = event
            else:
                kept += before
                kept += event
                before, owner = [], found
            continue
        if type(tag) is Site:
            depths[thread] += 1
            if depths[thread] > 1 or thread in tasks.values():
                continue
            roots.open(thread, event[2])
        elif tag is EXIT or tag is EXIT_BARE:
            depths[thread] -= 1
            if depths[thread] or thread in tasks.values():
                continue
        elif tag is TASK:
            if thread in tasks.values():
                inner.add(event[2])
                continue
            tasks[event[2]] = thread
        elif tag is TASK_END:
            if event[2] in inner:
                if event[4] is not None:
                    inner.discard(event[2])
                continue
            if event[4] is not None:
                tasks.pop(event[2], None)
        elif event_of(tag).of_modules:
            continue
        kept += before
        kept += event
        before, owner = [], None
    return kept + before


class _Roots:
    """Where the numbers of each root call begin."""

    def __init__(self) -> None:
        self._begin: defaultdict[int, list[int]] = defaultdict(list)

    def open(self, thread: int, number: int) -> None:
        self._begin[thread].append(number)

    def owner(self, thread: int, number: int) -> int:
        return bisect_right(self._begin[thread], number)
