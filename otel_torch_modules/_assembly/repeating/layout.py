"""The layout of a tree, and where in a log its times and values stand.

One record is read with :class:`Moment` for times and :class:`Placed` for values, so that each span of its tree says
which slots of the log they come from. For every record like it they are then looked up, a column at a time, instead of
being found anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

from otel_torch_modules._assembly.device import OF_DEVICE, OnDevice
from otel_torch_modules._assembly.repeating.moment import Moment, Placed
from otel_torch_modules._assembly.repeating.nesting import Nesting
from otel_torch_modules._assembly.self_time import self_times
from otel_torch_modules._engine.pauses import pause_after, slices
from otel_torch_modules._events import WIDTH, Detail, Slot, Varying, event_of
from otel_torch_modules._records import DEVICE_DURATION, DEVICE_LAG, Record
from otel_torch_modules._spans.columns import SpanColumns, pick
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._spans.span import SELF_TIME, Happening, Span

_SPANS_AT_ONCE = 1_024

_Shift = tuple[int, int, int]  # a span, a slot to add, a slot to subtract


class Plan:
    """A layout and, for records with its pattern, where in their logs its times and values stand.

    Args:
        spans: of the tree of one of these records, the root first, with moments for times.
        heads: how many of the first of them belong to the process and not to the program: step and rank.
        truncated: whether module spans are missing.
        length: of the log.
    """

    def __init__(self, spans: list[Any], heads: int, truncated: bool, length: int) -> None:
        self.layout = Layout(spans, heads, truncated)
        self._starts = _Times([span.start for span in spans])
        self._ends = _Times([span.end for span in spans])
        self._values = _Values(spans)
        self.layout.values = self._values.constant
        self._points = _Points(spans)
        self._on_device = [place for place, span in enumerate(spans) if DEVICE_LAG in span.keys]
        self._moved_starts, self._moved_ends = (
            {place: moment for place in self._on_device if (moment := moments[place]).taken}
            for moments in ([span.start for span in spans], [span.end for span in spans])
        )
        self._nesting = Nesting(spans, length)

    @classmethod
    def of(cls, root: Span, heads: int, truncated: bool, length: int) -> Plan | None:
        """Return the plan of a tree; None where it holds what other records may have otherwise."""
        spans = list(root.walk())
        known = set(map(id, spans))
        for span in spans:
            if span.error is not None or span.notes is not None:
                return None
            if span.link is not None and id(span.link) not in known:
                return None
        return cls(spans, heads, truncated, length)

    def columns(self, record: Record, heads: list[Span]) -> SpanColumns | None:
        """Return the tree of `record`.

        None where a span does not lie inside its parent, or comes before one that it followed in the record read:
        assembly then stretches and sorts, and what it does depends on the times.
        """
        log = record.log
        # As in `with_moments`, for a while: a copy of the log would cost as much as four columns.
        log += record.start, record.end
        try:
            return self._columns(record, heads, log)
        finally:
            del log[-2:]

    def _columns(self, record: Record, heads: list[Span], slots: list[Any]) -> SpanColumns | None:
        starts, ends = self._starts.of(slots), self._ends.of(slots)
        pause_after(len(starts))
        if not self._nesting.holds(slots, starts, ends):
            return None
        columns = SpanColumns(self.layout, heads, starts, ends)
        columns.values = self._values.of(slots)
        pause_after(len(starts))
        columns.values[SELF_TIME] = self_times(self.layout, starts, ends)
        pause_after(len(starts))
        columns.points = self._points.of(slots)
        if record.device is not None:
            columns.values.update(self._of_device(starts, ends, OnDevice(record)))
        return columns

    def _of_device(
        self, starts: list[int], ends: list[int], device: OnDevice
    ) -> dict[Varying, list[Any]]:
        durations: list[Any] = [None] * len(starts)
        lags: list[Any] = [None] * len(starts)
        for some in slices(self._on_device, _SPANS_AT_ONCE):
            for place in some:
                start = starts[place]
                begin = self._moved_starts.get(place, start)
                end = self._moved_ends.get(place, ends[place])
                found = device.duration_and_lag(start, begin, end)
                if found is not None:
                    durations[place], lags[place] = found
        return {DEVICE_DURATION: durations, DEVICE_LAG: lags}


class _Times:
    """Where a column of times comes from."""

    __slots__ = ("_pick", "_shifts")

    def __init__(self, moments: list[Any]) -> None:
        terms = [_terms(moment) for moment in moments]
        self._pick = pick([first for (first, *_), _ in terms])
        self._shifts: list[_Shift] = [
            (place, added, taken)
            for place, ((_, *more), less) in enumerate(terms)
            for added, taken in zip(more, less, strict=True)
        ]

    def of(self, slots: list[Any]) -> list[int]:
        """Return the column."""
        times = list(self._pick(slots))
        for place, added, taken in self._shifts:
            times[place] += slots[added] - slots[taken]
        return times


def _terms(moment: Moment) -> tuple[list[int], list[int]]:
    """Return the slots to add and to subtract, without those that are in both: one more to add than to subtract."""
    if not moment.taken:
        return list(moment.added), []
    added, taken = Counter(moment.added), Counter(moment.taken)
    return list((added - taken).elements()), list((taken - added).elements())


class _Values:
    """Where the columns of values come from. A value that comes from no slot is the same in all records."""

    __slots__ = ("_columns", "_placed", "constant")

    def __init__(self, spans: list[Span]) -> None:
        keys = dict.fromkeys(chain.from_iterable(span.keys for span in spans))
        self._columns: dict[Varying, list[Any]] = {key: [None] * len(spans) for key in keys}
        self._placed: dict[Varying, list[tuple[int, Placed]]] = {}
        for place, span in enumerate(spans):
            for key, value in span.said.items():
                if isinstance(value, Placed):
                    self._placed.setdefault(key, []).append((place, value))
                else:
                    self._columns[key][place] = value
        self.constant = {
            key: column
            for key, column in self._columns.items()
            if key not in self._placed and key not in (SELF_TIME, *OF_DEVICE)
        }

    def of(self, slots: list[Any]) -> dict[Varying, list[Any]]:
        """Return the columns of what varies."""
        found = {}
        for key, placed in self._placed.items():
            column = found[key] = self._columns[key].copy()
            for place, (_, slot, at) in placed:
                column[place] = slots[slot].values[at]
        return found


class _Points:
    """Where the events of spans come from."""

    __slots__ = ("_of_places", "_times")

    def __init__(self, spans: list[Span]) -> None:
        self._of_places = [
            (place, point) for place, span in enumerate(spans) for point in span.points or ()
        ]
        self._times = _Times([point.time for _, point in self._of_places])

    def of(self, slots: list[Any]) -> dict[int, list[Happening]]:
        """Return them by the places of their spans."""
        found: dict[int, list[Happening]] = {}
        if not self._of_places:
            return found
        for (place, like), time in zip(self._of_places, self._times.of(slots), strict=True):
            attributes = {
                name: slots[value.slot].values[value.at] if isinstance(value, Placed) else value
                for name, value in like.attributes.items()
            }
            found.setdefault(place, []).append(Happening(like.name, time, attributes))
        return found


def with_moments(record: Record) -> Record:
    """Return a copy of `record` whose times are moments and whose values are placed.

    The start and the end come after the slots of its log.
    """
    log = record.log.copy()
    length = len(log)
    log[3::WIDTH] = [Moment(log[slot], (slot,)) for slot in range(3, length, WIDTH)]
    for place in range(0, length, WIDTH):
        if event_of(log[place]).slot is Slot.TIME:
            log[place + 2] = Moment(log[place + 2], (place + 2,))
        detail = log[place + 4]
        if type(detail) is Detail:
            values = [Placed(value, place + 4, at) for at, value in enumerate(detail.values)]
            log[place + 4] = Detail(detail.said, tuple(values))
    return replace(
        record,
        log=log,
        start=Moment(record.start, (length,)),
        end=Moment(record.end, (length + 1,)),
    )


def without_moments(root: Span) -> None:
    """Give the spans of a tree that was read so plain times and values."""
    for span in root.walk():
        span.start, span.end = int(span.start), int(span.end)
        span.values = (*map(_plain, span.values),)
        if span.points:
            span.points = [
                Happening(
                    name, int(time), {key: _plain(value) for key, value in attributes.items()}
                )
                for name, time, attributes in span.points
            ]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Placed) else value
