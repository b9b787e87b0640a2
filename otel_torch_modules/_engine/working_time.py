"""When the worker's thread was at work: what trains in the same interpreter may be slower meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter_ns

from otel_torch_modules._records import STEP_TRACING_TIME, Record

_SHORTEST_NS = 100_000  # what is shorter is a look at an empty queue
_MOST = 1_024  # stretches that are known: of a step that lasts for minutes the last ones count
_LEAST_SHARE = 0.01  # of a step: what is less is not said


class WorkingTime:
    """The stretches of time in which the worker assembled and exported. Asked on its own thread.

    A record is handled after its end, and all work that overlaps with it has been done then, or is being done.

    Args:
        clock: nanoseconds, the records' own.
    """

    def __init__(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._clock = clock
        self._stretches: deque[tuple[int, int]] = deque(maxlen=_MOST)
        self._began = clock()

    def begins(self) -> None:
        self._began = self._clock()

    def ends(self) -> None:
        end = self._clock()
        if end - self._began >= _SHORTEST_NS:
            self._stretches.append((self._began, end))

    def say(self, step: Record) -> None:
        """Say in `step` for how long it went on beside this work, if that is any part of it to speak of."""
        beside = sum(self._beside(step.start, step.end))
        if beside > _LEAST_SHARE * (step.end - step.start):
            step.measured = {**step.measured, STEP_TRACING_TIME: beside / 1e9}

    def _beside(self, start: int, end: int) -> Iterator[int]:
        """Yield for how long each stretch overlaps with that time, the one that goes on now first."""
        yield max(end - max(self._began, start), 0)
        for began, ended in reversed(self._stretches):
            if ended <= start:
                return
            yield max(min(ended, end) - max(began, start), 0)
