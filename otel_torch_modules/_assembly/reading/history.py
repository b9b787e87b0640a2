"""The calls of the last records: a backward may come after the record of its forward, and may recompute it."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from otel_torch_modules._assembly.reading.call import Call, Calls
from otel_torch_modules._assembly.reading.ruler import Ruler
from otel_torch_modules._site import Site

# How many records are kept, the one that is read included. A backward through an older forward is counted, not shown.
_STEPS_KEPT = 2
_EVALUATIONS_KEPT = 1

# How many calls of a module are looked at for the one that a recompute repeats.
_CALLS_LOOKED_AT = 64


class RecordCalls(Protocol):
    """The calls of one record."""

    @property
    def calls(self) -> Calls:
        """All of them."""

    def ends(self, thread: int) -> tuple[int, int] | None:
        """Return between which numbers the thread's nodes may be those of calls; None where it made no calls."""

    def owner(self, thread: int, number: int) -> Call | None:
        """Return the innermost call that made the thread's node `number`, which lies between `ends`."""


class ReadCalls:
    """The calls of a record that was read event by event."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._rulers: dict[int, Ruler] = {}

    def ends(self, thread: int) -> tuple[int, int] | None:
        """See :class:`RecordCalls`."""
        ruler = self._rulers.get(thread)
        return None if ruler is None else ruler.ends

    def owner(self, thread: int, number: int) -> Call | None:
        """See :class:`RecordCalls`."""
        return self._rulers[thread].owner(number)

    def ruler(self, thread: int) -> Ruler:
        """Return the thread's ruler, made where there is none."""
        ruler = self._rulers.get(thread)
        if ruler is None:
            ruler = self._rulers[thread] = Ruler()
        return ruler


class History:
    """The calls of the last records."""

    def __init__(self) -> None:
        self._last: RecordCalls = ReadCalls()
        self._steps: deque[RecordCalls] = deque(maxlen=_STEPS_KEPT)
        self._evaluations: deque[RecordCalls] = deque(maxlen=_EVALUATIONS_KEPT)

    def copy(self) -> History:
        """Return one that knows the same, and goes on by itself."""
        other = History()
        other._last = self._last
        other._steps, other._evaluations = self._steps.copy(), self._evaluations.copy()
        return other

    def begin(self, calls: RecordCalls, is_step: bool) -> RecordCalls:
        """Take in the calls of the next record, now or while they are read; return those of the one before it."""
        before, self._last = self._last, calls
        (self._steps if is_step else self._evaluations).append(calls)
        return before

    def owner(self, thread: int, number: int) -> Call | None:
        """Return the call that made the node `number`, if it was made by one and is still known."""
        kept = [
            (ends, calls)
            for calls in (*self._steps, *self._evaluations)
            if (ends := calls.ends(thread)) is not None and ends[0] <= number
        ]
        if not kept:  # made too long ago
            return None
        (_, last), calls = max(kept, key=lambda entry: entry[0][0])
        return None if number >= last else calls.owner(thread, number)

    def end(self, thread: int) -> int:
        """Return the number from which on the nodes of a thread were made by no call of the records until now."""
        last = 0
        for calls in (*self._steps, *self._evaluations):
            ends = calls.ends(thread)
            if ends is not None and ends[1] > last:
                last = ends[1]
        return last


class KnownCalls:
    """The calls that a recompute may repeat: those of the record that is read, and of the one before it.

    Args:
        own: of the record that is read.
        earlier: of the one before it.
        first: order of the first call of the record that is read.
    """

    def __init__(self, own: Calls, earlier: RecordCalls, first: int) -> None:
        self._own = own
        self._earlier = earlier
        self._first = first
        self.own_only = True
        """Whether the earlier record's have not been asked for."""

    def of(self, site: Site, until: int | None = None) -> Iterator[Call]:
        """Return the latest calls of `site` in the record that is read, the last first.

        Args:
            site: of the module.
            until: the time (ns) after which none began that counts, if any began before; None for no such time.
        """
        return _latest(self._own.of(site), until)

    def before(self, site: Site, until: int | None = None) -> Iterator[Call]:
        """Return the latest calls of `site` in the earlier record, the last first."""
        self.own_only = False
        return _latest(self._earlier.calls.of(site), until)

    def beside(self, call: Call, site: Site) -> Iterator[Call]:
        """Return the latest calls of `site` before `call` in its record, the last first."""
        found = self.of if call.order >= self._first else self.before
        return found(site, call.start)


def _latest(calls: Sequence[Call], until: int | None) -> Iterator[Call]:
    end = 0 if until is None else bisect_right(calls, until, key=_start)
    end = end or len(calls)  # where none did: a program may call others than in the forward
    return islice(reversed(calls), len(calls) - end, len(calls) - end + _CALLS_LOOKED_AT)


def _start(call: Call) -> int:
    return call.start
