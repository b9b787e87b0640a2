"""When that was done which went on beside its thread: in the log it ends where its thread went on.

The time is taken in a thread of the backend's when that gets the interpreter lock. Who waited for the collective itself
may be faster: it is waited for here, on the worker, not where the program trains.
"""

from __future__ import annotations

from typing import Final

from otel_torch_modules import semconv
from otel_torch_modules._engine.pauses import pause
from otel_torch_modules._records import WIDTH, Detail, Record, Stretch

_PAUSES: Final = 200  # of a tenth of a millisecond each, for all of a record

# So much later (ns) may be noted what a backward has waited for: where the host has no other work it is some µs.
_LATE: Final = 10_000_000


def settle(record: Record) -> None:
    """Write into the log of `record`, which is complete, when each of these was done, and whether that is known."""
    log = record.log
    places = [
        place * WIDTH
        for place, tag in enumerate(log[::WIDTH])
        if type(tag) is Stretch and tag.beside
    ]
    left = _PAUSES
    for place in places:
        said, (*values, done) = log[place + 4]
        while done == [] and left:
            left -= 1
            pause()
        if done:
            log[place + 3] = min(done[0], record.end)
        log[place + 4] = Detail(said, (*values, bool(done)))


def end_in(phase: str, outer_end: int, end: int) -> int:
    """Return when that ended of which is noted that it was at `end`, and which was launched in a span.

    Args:
        phase: of the span.
        outer_end: when that ended. A backward waits for what it launched.
        end: what was noted.
    """
    late = phase == semconv.PHASE_BACKWARD and outer_end < end <= outer_end + _LATE
    return outer_end if late else end
