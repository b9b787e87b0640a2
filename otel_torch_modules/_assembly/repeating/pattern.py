"""What a log is but for its times and values: steps of a training loop most often do the same as one before them.

Two logs have the same pattern where they differ in nothing but times, values and the number at which the sequence
numbers begin. Then their trees differ in nothing but times, values and ids. All comparisons are of whole columns, so
that they cost a fraction of reading the log event by event.
"""

from __future__ import annotations

from itertools import repeat
from operator import sub
from typing import Any

from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._events import WIDTH, Detail, Slot, event_of
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.columns import pick


class Pattern:
    """The pattern of one record's log. All its sequence numbers are of one thread."""

    __slots__ = (
        "_about",
        "_details",
        "_first",
        "_numbers",
        "_pick_numbers",
        "_pick_same",
        "_same",
        "_tags",
        "_threads",
        "_with_values",
        "calls",
        "length",
        "lowest",
        "thread",
    )

    def __init__(self, record: Record, thread: int, numbered: list[int], same: list[int]) -> None:
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
        details = log[4::WIDTH]
        self._with_values = [
            place for place, detail in enumerate(details) if type(detail) is Detail
        ]
        self._details = self._without_values(details)
        self._first = next(place for place in numbered if isinstance(log[place - 2], Site))
        self._pick_numbers = pick(numbered)
        self._numbers = self._relative(log)
        self._pick_same = pick(same)
        self._same = self._pick_same(log)
        self.lowest = min(self._numbers)
        """The lowest sequence number, counted from that of the first call."""

    @classmethod
    def of(cls, record: Record) -> Pattern | None:
        """Return the pattern of `record`; None where nothing else can be told to be like it."""
        log = record.log
        tags = log[::WIDTH]
        if record.failed or len(log) % WIDTH:
            return None
        if not all(event_of(tag).repeats for tag in set(tags)):
            return None
        numbered, same = [], []
        for place, tag in zip(range(2, len(tags) * WIDTH, WIDTH), tags, strict=True):
            slot = event_of(tag).slot
            if slot is Slot.NUMBER:
                numbered.append(place)
            elif slot is not Slot.TIME:
                same.append(place)
        threads = {log[place - 1] for place in numbered}
        if len(threads) != 1 or not any(isinstance(tag, Site) for tag in tags):
            return None
        return cls(record, threads.pop(), numbered, same)

    def matches(self, record: Record) -> bool:
        """Return whether the log of `record` has this pattern."""
        log = record.log
        return (
            len(log) == self.length
            and _about(record) == self._about
            and log[::WIDTH] == self._tags
            and log[1::WIDTH] == self._threads
            and self._without_values(log[4::WIDTH]) == self._details
            and self._pick_same(log) == self._same
            and self._has_numbers(log)
        )

    def _has_numbers(self, log: list[Any]) -> bool:
        pause_after(self.calls)
        return self._relative(log) == self._numbers

    def first(self, record: Record) -> int:
        """Return the sequence number of the first call of `record`, which matches."""
        number: int = record.log[self._first]
        return number

    def _without_values(self, details: list[Any]) -> list[Any]:
        for place in self._with_values:
            detail = details[place]
            if type(detail) is Detail:  # else it is compared as it is, and unlike
                details[place] = detail[:1]
        return details

    def _relative(self, log: list[Any]) -> list[int]:
        return list(map(sub, self._pick_numbers(log), repeat(log[self._first])))


def _about(record: Record) -> tuple[Any, ...]:
    shared = record.shared
    return (
        record.kind,
        record.site,
        record.failed,
        record.truncated,
        record.phases_only,
        None if shared is None else shared.sent_here,
        None if record.device is None else (record.device.of_modules, len(record.device.times)),
    )
