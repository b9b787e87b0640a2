"""Records that wait for the worker, bounded by the memory that they take.

When there is no room for another one, evaluations go first, the oldest first; then what steps say of their modules; and
only then whole steps, the newest, for half a trace is worse than none.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count

from otel_torch_modules._engine.phases import cut_to_phases
from otel_torch_modules._log import warn
from otel_torch_modules._records import Record

_LOGGER = logging.getLogger(__name__)

_BYTES_PER_SLOT = 21  # measured: 313 bytes a module call, most of them for times
_SLOTS_PER_RECORD = 50  # for what it has beside its log
_NEARLY_FULL = 0.75


_Waiting = tuple[int, Record, int]
"""In the order of these numbers all came; the last is the size in slots. A plain tuple, for one is made each step."""


class RecordQueue:
    """First in, first out.

    Args:
        capacity: bytes of records that may wait.
        lose: called with each record that there is no room for.
    """

    def __init__(self, capacity: int, lose: Callable[[Record], None]) -> None:
        self.capacity = capacity
        self._most = capacity // _BYTES_PER_SLOT
        self._lose = lose
        self._warned = False
        self.clear()

    def clear(self) -> None:
        """Forget what waits: in a forked child, for the parent sends it."""
        # A signal handler of the program's may train where its thread is in here.
        self._lock = threading.RLock()
        self._steps: deque[_Waiting] = deque()
        self._cut = 0  # of `_steps`, the oldest: there is nothing more to leave out
        self._evaluations: deque[_Waiting] = deque()
        self._slots = 0
        self._orders = count()

    def __len__(self) -> int:
        return len(self._steps) + len(self._evaluations)

    @property
    def bytes(self) -> int:
        """How much waits."""
        return self._slots * _BYTES_PER_SLOT

    def is_nearly_full(self) -> bool:
        """Return whether a record that opens now should do without its modules."""
        return self._slots > self._most * _NEARLY_FULL

    def put(self, record: Record) -> bool:
        """Add `record`; return False where there is no room for it."""
        size = _SLOTS_PER_RECORD + len(record.log)
        with self._lock:
            if self._slots + size > self._most and not self._make_room(record, size):
                self._lose(record)
                return False
            waiting = next(self._orders), record, size
            self._slots += size
            (self._steps if record.kind == "step" else self._evaluations).append(waiting)
        return True

    @property
    def first(self) -> Record | None:
        """The record that came first, unless it goes before it is taken; None where there is none."""
        with self._lock:
            queue = self._queue_of_first()
            return queue[0][1] if queue else None

    def take(self) -> Record | None:
        """Return the record that came first; None where there is none."""
        with self._lock:
            queue = self._queue_of_first()
            if not queue:
                return None
            _, record, size = queue.popleft()
            if queue is self._steps:
                self._cut = max(0, self._cut - 1)
            self._slots -= size
            return record

    def _queue_of_first(self) -> deque[_Waiting]:
        """Return the queue in which the record is that came first; an empty one where there is none."""
        steps, evaluations = self._steps, self._evaluations
        if steps and (not evaluations or steps[0][0] < evaluations[0][0]):
            return steps
        return evaluations

    def _make_room(self, record: Record, size: int) -> bool:
        if not self._warned:
            self._warned = True
            warn(
                _LOGGER,
                "%d MB of steps wait to be sent: evaluations are left out from here on, then the modules of steps, "
                "then whole steps; all are counted",
                self.capacity >> 20,
            )
        if record.kind != "step":
            return False
        while self._slots + size > self._most and self._evaluations:
            _, gone, freed = self._evaluations.popleft()
            self._slots -= freed
            self._lose(gone)
        while self._slots + size > self._most and self._cut < len(self._steps):
            self._steps[self._cut] = self._without_modules(*self._steps[self._cut])
            self._cut += 1
        return self._slots + size <= self._most

    def _without_modules(self, order: int, record: Record, size: int) -> _Waiting:
        if not record.phases_only:
            before = len(record.log)
            record.log = cut_to_phases(record.log)
            record.phases_only = record.truncated = True
            freed = before - len(record.log)
            self._slots -= freed
            size -= freed
        return order, record, size
