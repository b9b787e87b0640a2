"""What went on beside modules, kept until the record is sent off in whose time it lies.

It is not written into the open log: a collection of garbage may come between any two lines, also between two of ours
that look at the end of the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from otel_torch_modules._events import COLLECTION, WIDTH, Stretch
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.wrapped import guarded
from otel_torch_modules._records import Record

_MOST: Final = 8_192


_Happening = tuple[Stretch, int, int, int, Any]
"""As the log has it; a plain tuple, for many are made."""

_END: Final = itemgetter(3)


class Happened:
    """What is in no record yet, the latest of it. Any thread may add.

    Args:
        code: returns the code of the thread that asks.
        fail: called while an exception is handled that came up in who adds; returns whether it is the program's.
    """

    def __init__(self, code: Callable[[], int], fail: Callable[[str], bool]) -> None:
        self.code = code
        self.fail = fail
        self.kept: deque[_Happening] = deque(maxlen=_MOST)
        """In the order in which it was added."""

    def guarded(self, function: Callable[..., None], where: str) -> Callable[..., None]:
        """Return `function`, which adds, so that an error of ours in it stays ours."""
        return guarded(function, where, self.fail)

    def add(self, event: Stretch, thread: int, start: int, end: int, detail: Any) -> None:
        """Keep that the thread with this code was busy with `event` from `start` to `end` (ns).

        Args:
            event: what it is.
            thread: the code of the thread, -1 for one that has called no module.
            start: perf_counter_ns.
            end: the same.
            detail: what is said of it, as the log has it.
        """
        self.kept.append((event, thread, start, end, detail))

    def put_into(self, record: Record) -> None:
        """Write what happened in the time of `record`, in its threads, into its log.

        What happened before a step is forgotten: it belongs to no other.
        """
        if not self.kept:
            return
        record.truncated |= len(self.kept) == _MOST
        left: list[_Happening] = []
        kept: list[_Happening] = []
        try:
            for _ in range(len(self.kept)):
                kept.append(self.kept.popleft())
        except IndexError as error:  # a step in a signal handler has taken them meanwhile
            if is_interruption(error):
                raise
        log = record.log
        found: list[_Happening] = []
        for happening in sorted(kept, key=_END):
            event, thread, start, end, _ = happening
            in_its_time = record.start <= start and end <= record.end
            # All threads stand still while garbage is collected.
            is_of_it = event is COLLECTION or not log or thread in islice(log, 1, None, WIDTH)
            if in_its_time and is_of_it:
                found.append(happening)
            elif record.kind != "step" or end > record.start:
                left.append(happening)
        record.passing = bool(found)
        if found:
            _merge(log, found)
        self.kept.extendleft(reversed(left))

    def clear(self) -> None:
        """Forget all."""
        self.kept.clear()


def _merge(log: list[Any], found: list[_Happening]) -> None:
    """Put what was found, in its order, where it belongs: in one go, for this is done where the next step begins."""
    times = range(3, len(log), WIDTH)
    merged: list[Any] = []
    before = 0
    for happening in found:
        place = WIDTH * bisect_right(times, happening[3], key=log.__getitem__)
        merged += log[before:place]
        merged += happening
        before = place
    log[:before] = merged
