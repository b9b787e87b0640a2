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

# Of what was over before an evaluation began: the step that comes next may have begun before that, with its data.
_MOST_BEFORE: Final = 64


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
        self.open_step: Record | None = None
        """What happens in its time is kept until it is over."""
        self._forgotten = -1  # when the last ended that an evaluation has pushed out

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

        What happened before a step is forgotten: it belongs to no other. So is most of what happened before an
        evaluation, and not in the step that is open beside it: no step may ever come.
        """
        if not self.kept:
            return
        left: list[_Happening] = []
        kept: list[_Happening] = []
        try:
            for _ in range(len(self.kept)):
                kept.append(self.kept.popleft())
        except IndexError as error:  # a step in a signal handler has taken them meanwhile
            if is_interruption(error):
                raise
        is_full = len(kept) == _MOST and kept[0][3] > record.start
        record.truncated |= is_full or self._forgotten > record.start
        log = record.log
        found: list[_Happening] = []
        for happening in sorted(kept, key=_END):
            event, thread, start, end, _ = happening
            if (
                record.start <= start
                and end <= record.end
                # All threads stand still while garbage is collected.
                and (event is COLLECTION or not log or thread in islice(log, 1, None, WIDTH))
            ):
                found.append(happening)
            elif record.kind != "step" or end > record.start:
                left.append(happening)
        record.passing = bool(found)
        if found:
            _merge(log, found)
        if record.kind != "step":
            self._forget_before(record.start, left)
        self.kept.extendleft(reversed(left))

    def _forget_before(self, start: int, left: list[_Happening]) -> None:
        step = self.open_step
        if step is not None:
            start = min(start, step.start)
        too_many = bisect_right(left, start, key=_END) - _MOST_BEFORE
        if too_many > 0:
            self._forgotten = max(self._forgotten, left[too_many - 1][3])
            del left[:too_many]

    def clear(self) -> None:
        """Forget all."""
        self.kept.clear()
        self.open_step = None


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
