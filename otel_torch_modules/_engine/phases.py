"""A log cut down to what a step of phases only has: the calls of root modules, backward passes, optimizers, waits.

So a step keeps its place and its times where its modules are not sent. Of these stay what the program has spoken of:
a span of its own may hang below.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from otel_torch_modules._events import EXIT, EXIT_BARE, MARK, TASK, TASK_END, WIDTH, event_of
from otel_torch_modules._site import Site


def cut_to_phases(log: list[Any]) -> list[Any]:
    """Return the events of `log` that are not about modules below the roots.

    A module for whose span the program has asked, or of which it has said something, stays with those around it.
    """
    kept: list[Any] = []
    for place in places_of_phases(log):
        kept += log[place : place + WIDTH]
    return kept


def places_of_phases(log: list[Any]) -> list[int]:
    """Return where these events begin."""
    tags = log[::WIDTH]
    asked = _asked_for(log, tags)
    kept: list[int] = []
    calls: defaultdict[int, list[bool]] = defaultdict(list)  # open ones, by thread: are they kept?
    tasks: dict[int, int] = {}  # those that run, and in which thread
    inner: set[int] = set()  # of these, those that run inside another: checkpoints do that
    rulers: defaultdict[int, _Ruler] = defaultdict(_Ruler)
    before: int | None = None  # the last mark, where it was left out
    owner: object = None  # of the last mark
    for place, tag in zip(range(0, len(log), WIDTH), tags, strict=True):
        _, thread, value, _, said = log[place : place + WIDTH]
        if tag is MARK:
            if said in inner:
                continue
            found = (said, rulers[thread].owner(value))
            if found == owner:
                before = place
                continue
            if before is not None:
                kept.append(before)
            kept.append(place)
            before, owner = None, found
            continue
        if type(tag) is Site:
            stays = place in asked or not (calls[thread] or thread in tasks.values())
            calls[thread].append(stays)
            if not stays:
                continue
            rulers[thread].open(value)
        elif tag is EXIT or tag is EXIT_BARE:
            if not calls[thread] or not calls[thread].pop():
                continue
            rulers[thread].close(value)
        elif tag is TASK:
            if thread in tasks.values():
                inner.add(value)
                continue
            tasks[value] = thread
        elif tag is TASK_END:
            if value in inner:
                if said is not None:
                    inner.discard(value)
                continue
            if said is not None:
                tasks.pop(value, None)
        elif event_of(tag).of_modules:
            continue
        if before is not None:
            kept.append(before)
        kept.append(place)
        before, owner = None, None
    return kept if before is None else [*kept, before]


def _asked_for(log: list[Any], tags: list[Any]) -> Collection[int]:
    """Return where the calls begin that the program has spoken of, and those around them.

    With the earlier calls of the same module by the same caller: they say which one it is.
    """
    if all(event_of(tag).repeats for tag in set(tags)):
        return ()
    asked: set[int] = set()
    calls: defaultdict[int, list[int]] = defaultdict(list)  # open ones, by thread
    last: dict[tuple[int, Site], int] = {}  # call of a module by a caller
    earlier: dict[int, int] = {}  # that before a call, where there is one
    for place, tag in zip(range(0, len(log), WIDTH), tags, strict=True):
        open_calls = calls[log[place + 1]]
        if type(tag) is Site:
            if open_calls:
                key = (open_calls[-1], tag)
                if key in last:
                    earlier[place] = last[key]
                last[key] = place
            open_calls.append(place)
        elif tag is EXIT or tag is EXIT_BARE:
            del open_calls[-1:]
        elif not event_of(tag).repeats:
            for call in open_calls:
                before: int | None = call
                while before is not None and before not in asked:
                    asked.add(before)
                    before = earlier.get(before)
    return asked


class _Ruler:
    """Which of the calls that stay has made a node of one thread, by the node's number."""

    def __init__(self) -> None:
        self._bounds: list[int] = []  # never falls
        self._owners: list[
            int
        ] = []  # from there on: the innermost of them, as where it begins in here
        self._open: list[int] = []

    def open(self, number: int) -> None:
        self._open.append(len(self._bounds))
        self._turn(number)

    def close(self, number: int) -> None:
        self._open.pop()
        self._turn(number)

    def _turn(self, number: int) -> None:
        self._bounds.append(number)
        self._owners.append(self._open[-1] if self._open else -1)

    def owner(self, number: int) -> int:
        place = bisect_right(self._bounds, number)
        return self._owners[place - 1] if place else -1
