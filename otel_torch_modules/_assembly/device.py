"""What the device says of spans: how long it took for them, and how far it was behind the program.

A span begins and ends with an event of the log, and when the device came to that is known by the time that the log has.
Where assembly has moved a span, by what lies between other events, the device's time is moved by the same.
"""

from __future__ import annotations

from otel_torch_modules._assembly.repeating.moment import Moment
from otel_torch_modules._records import DEVICE_DURATION, DEVICE_LAG, Record
from otel_torch_modules._spans.span import SECOND, Span

OF_DEVICE = (DEVICE_DURATION, DEVICE_LAG)


class OnDevice:
    """Knows when the device came to what `record` has, whose device times are known."""

    def __init__(self, record: Record) -> None:
        assert record.device is not None
        self._log = record.log
        self._times = record.device.times

    def at(self, time: int) -> int | None:
        """Return when the device came to a time of the tree; None where it is not known."""
        if not isinstance(time, Moment) or not time.taken:
            return self._times.get(time)
        came = 0
        for slots, sign in ((time.added, 1), (time.taken, -1)):
            for slot in slots:
                at = self._times.get(self._log[slot])
                if at is None:
                    return None
                came += sign * at
        return came

    def duration_and_lag(self, start: int, begin: int, end: int) -> tuple[float, float] | None:
        """Return what is said of a span, in seconds; None where it is not known.

        Args:
            start: of the span.
            begin: the same, or a moment of a record like this one that says where the start comes from.
            end: of the span, or such a moment.
        """
        began, ended = self.at(begin), self.at(end)
        if began is None or ended is None:
            return None
        return max(ended - began, 0) / SECOND, max(began - start, 0) / SECOND

    def say(self, root: Span) -> None:
        """Give those spans of the record's tree that have any their own."""
        for span in root.walk():
            found = self.duration_and_lag(span.start, span.start, span.end)
            if found is not None:
                span.say(OF_DEVICE, found)
