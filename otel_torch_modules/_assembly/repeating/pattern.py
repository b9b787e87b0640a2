"""What a log is but for its times: steps of a training loop most often do the same as one before them.

Two logs have the same pattern where they differ in nothing but times and the number at which the sequence numbers
begin. Then their trees differ in nothing but times and ids. All comparisons are of whole columns, so that they cost a
fraction of reading the log event by event.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from operator import itemgetter, sub
from typing import Any

from otel_torch_modules._records import (
    DATA,
    EXIT,
    EXIT_BARE,
    MARK,
    NOTE,
    SPAN_ID,
    WIDTH,
    Record,
    Site,
)

_NUMBERED = (EXIT, EXIT_BARE, MARK)  # with sites: slot 2 is a sequence number


class Pattern:
    """The pattern of one record's log. All its sequence numbers are of one thread."""

    __slots__ = (
        "_about",
        "_details",
        "_first",
        "_numbers",
        "_pick_numbers",
        "_pick_values",
        "_tags",
        "_threads",
        "_values",
        "calls",
        "length",
        "lowest",
        "thread",
    )

    def __init__(self, record: Record, thread: int, numbered: list[int], values: list[int]) -> None:
        log = record.log
        tags = log[::WIDTH]
        self.length = len(log)
        self.thread = thread
        """The thread whose sequence numbers they are."""
        self.calls = sum(isinstance(tag, Site) for tag in tags)
        """How many module calls begin."""
        self._about = _about(record)
        self._tags = tags
        self._threads = log[1::WIDTH]
        self._details = log[4::WIDTH]
        self._first = next(place for place in numbered if isinstance(log[place - 2], Site))
        self._pick_numbers = pick(numbered)
        self._numbers = self._relative(log)
        self._pick_values = pick(values)
        self._values = self._pick_values(log)
        self.lowest = min(self._numbers)
        """The lowest sequence number, counted from that of the first call."""

    @classmethod
    def of(cls, record: Record) -> Pattern | None:
        """Return the pattern of `record`; None where nothing else can be told to be like it."""
        log = record.log
        tags = log[::WIDTH]
        if record.failed or len(log) % WIDTH or NOTE in tags or SPAN_ID in tags:
            return None
        numbered, values = [], []
        for place, tag in zip(range(2, len(tags) * WIDTH, WIDTH), tags, strict=True):
            if tag in _NUMBERED or isinstance(tag, Site):
                numbered.append(place)
            elif tag is not DATA:
                values.append(place)
        threads = {log[place - 1] for place in numbered}
        if len(threads) != 1 or not any(isinstance(tag, Site) for tag in tags):
            return None
        return cls(record, threads.pop(), numbered, values)

    def matches(self, record: Record) -> bool:
        """Return whether the log of `record` has this pattern."""
        log = record.log
        return (
            len(log) == self.length
            and _about(record) == self._about
            and log[::WIDTH] == self._tags
            and log[1::WIDTH] == self._threads
            and log[4::WIDTH] == self._details
            and self._pick_values(log) == self._values
            and self._relative(log) == self._numbers
        )

    def first(self, record: Record) -> int:
        """Return the sequence number of the first call of `record`, which matches."""
        number: int = record.log[self._first]
        return number

    def _relative(self, log: list[Any]) -> list[int]:
        return list(map(sub, self._pick_numbers(log), repeat(log[self._first])))


def pick(places: list[int]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the entries at `places` out of a list."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda entries: tuple([entries[place] for place in places])


def _about(record: Record) -> tuple[Any, ...]:
    shared = record.shared
    return (
        record.kind,
        record.site,
        record.failed,
        record.truncated,
        None if shared is None else shared.sent_here,
    )
