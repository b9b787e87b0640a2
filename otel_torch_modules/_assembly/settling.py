"""When that was done which went on beside its thread: in the log it ends where its thread went on.

The time is taken in a thread of the backend's when that gets the interpreter lock. Who waited for the collective itself
may be faster: so it is waited for here, on the worker, and what is noted later than the program knew it is corrected.
"""

from __future__ import annotations

from typing import Final

from otel_torch_modules import semconv
from otel_torch_modules._engine.pauses import pause, pause_after
from otel_torch_modules._events import ASYNC, WIDTH, Detail, Stretch
from otel_torch_modules._records import Record

_PAUSES: Final = 500  # of a tenth of a millisecond each, for all of a record

# So much later (ns) may be noted what a backward has waited for: where the host has no other work it is some µs.
_LATE: Final = 10_000_000


class Settling:
    """Waits less where it has waited in vain: there, what was launched goes on while further steps are made."""

    def __init__(self) -> None:
        self._pauses = _PAUSES

    def settle(self, record: Record) -> None:
        """Write into the log of `record`, which is complete, when each of these was done, and whether that is known."""
        log = record.log
        places = [
            place * WIDTH
            for place, tag in enumerate(log[::WIDTH])
            if type(tag) is Stretch and tag.beside
        ]
        pause_after(len(log) // WIDTH)
        left, pending = self._pauses, False
        for place in places:
            said, (*values, done) = log[place + 4]
            while done == [] and left:
                left -= 1
                pause()
            pending |= done == []
            if done:
                log[place + 3] = min(done[0], record.end)
            log[place + 4] = Detail(said, (*values, bool(done)))
        self._pauses = self._pauses // 2 if pending else _PAUSES


def end_in(event: Stretch, detail: Detail, phase: str, outer_end: int, noted: int) -> int:
    """Return when that ended which was launched in a span.

    Args:
        event: what it is.
        detail: what is said of it.
        phase: of the span. A backward waits for what it launched.
        outer_end: when that ended.
        noted: when it was noted that it had ended.
    """
    if noted <= outer_end:
        return noted
    is_waited_for = ASYNC in event.values and detail.values[event.values.index(ASYNC)] is False
    late = phase == semconv.PHASE_BACKWARD and noted <= outer_end + _LATE
    return outer_end if is_waited_for or late else noted
