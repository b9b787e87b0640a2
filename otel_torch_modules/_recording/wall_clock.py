"""Where the clock that recording reads stands on the one of the world."""

from __future__ import annotations

from time import perf_counter_ns, time_ns

_RIGHT_TO = 50_000  # ns

_offset = time_ns() - perf_counter_ns()


def clock_offset() -> int:
    """Return the nanoseconds to add to a `perf_counter_ns` for nanoseconds since the epoch.

    It stays the same while it is right to 50 µs, for the two clocks are not read at once: a step would seem to begin
    before the end of the one that it follows.

    Example:
        >>> perf_counter_ns() + clock_offset() > 1_700_000_000 * 10**9  # since the epoch
        True
    """
    global _offset
    before = perf_counter_ns()
    wall = time_ns()
    after = perf_counter_ns()
    offset = wall - (before + after) // 2
    if after - before < _RIGHT_TO < abs(offset - _offset):
        _offset = offset
    return _offset
