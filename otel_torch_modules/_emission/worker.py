"""The one thread that assembles and sends, so that the training thread never does.

`Worker.put` is all that the training thread calls: it appends to a queue or drops, and never waits. A record is dropped
whole, for half a trace is worse than none; the next step that is taken says how many were.

Small records are handled several at a time. To wake a thread for each costs the training thread as much as recording a
dozen calls does, and takes the interpreter lock and the processor's caches from it each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from otel_torch_modules import semconv
from otel_torch_modules._emission import fork
from otel_torch_modules._records import Record

_LOGGER = logging.getLogger(__name__)

# The thread is woken for so many records, or for so many slots of their logs: about two milliseconds of work. What is
# less waits for the next look at the queue.
_WAKING_RECORDS = 32
_WAKING_SLOTS = 8_192


class _Stop:
    """Put last: the thread ends when it gets here."""


class Worker:
    """A bounded queue of records and one daemon thread, started at the first `put`.

    Args:
        handle: called on the thread with each record. What it raises is logged with a traceback the first time and
            counted from then on.
        capacity: records that may wait; more are dropped and counted.
        idle: called on the thread when it has handled what waited, and at least every `interval_s`.
        export: called on the thread when all that was put before a `flush` has been handled.
        close: called on the thread, once, after the last record when the worker stops.
        interval_s: seconds between two looks at the queue; a record waits no longer while there is nothing else to do.
    """

    def __init__(
        self,
        handle: Callable[[Record], None],
        *,
        capacity: int,
        idle: Callable[[], None],
        export: Callable[[], None],
        close: Callable[[], None],
        interval_s: float = 0.2,
    ) -> None:
        self._handle = handle
        self.capacity = capacity
        self._idle = idle
        self._export = export
        self._close = close
        self._interval_s = interval_s
        self._stopped = False
        self._renew()
        fork.watch(self)

    def _renew(self) -> None:
        self._records: deque[Record] = deque()
        # Since the thread last looked at the queue; threads may race for both.
        self._slots = 0  # of the logs that came
        self._woken = False
        self._signals: SimpleQueue[threading.Event | _Stop | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.failures = 0
        self._lost = 0  # before they could be put
        self._lost_to: dict[str, int] = {}  # the same by the type of the error
        self._said = 0  # of `dropped` and `_lost`, by steps that were taken
        self._handled: dict[str, int] = {"": 0}  # records, by the type of the error that lost them

    def after_fork_in_child(self) -> None:
        """Forget the parent's records: the parent sends them."""
        self._renew()

    @property
    def waiting(self) -> int:
        """How many records wait to be handled."""
        return len(self._records)

    def outcomes(self) -> dict[str, int]:
        """Return how many records are done with, by what went wrong; those that were handled have an empty string."""
        lost_to = dict(self._lost_to)  # at once: the training thread adds to it
        done = {**self._handled, semconv.QUEUE_FULL: self.dropped}
        return done | {error: done.get(error, 0) + number for error, number in lost_to.items()}

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run,
                    args=(self._records, self._signals),
                    name="otel-torch-modules",
                    daemon=True,
                )
                self._thread.start()

    def put(self, record: Record) -> bool:
        """Hand `record` over without waiting; return False where it was dropped."""
        if self._stopped:
            return False
        if len(self._records) >= self.capacity:
            self.dropped += 1
            if self.dropped == 1:
                _LOGGER.warning(
                    "Steps come faster than they can be sent: whole steps are left out from here on, "
                    "and counted"
                )
            return False
        if record.kind == "step":
            record.dropped_before = self.dropped + self._lost - self._said
            self._said += record.dropped_before
        if self._thread is None:
            self.start()
        self._records.append(record)
        self._slots += len(record.log)
        waits = len(self._records) >= _WAKING_RECORDS or self._slots >= _WAKING_SLOTS
        if waits and not self._woken:
            self._woken = True
            self._signals.put(None)
        return True

    def lose(self, error_type: str) -> None:
        """Count a record that an error of this type has cost before it could be put."""
        self._lost += 1
        self._lost_to[error_type] = self._lost_to.get(error_type, 0) + 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put has been handled and exported; return False when that takes longer."""
        if self._thread is None:
            return True
        exported = threading.Event()
        self._signals.put(exported)
        return exported.wait(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Handle what was put, close, and end the thread; return False when that takes longer.

        The thread is a daemon: one that is still busy does not keep the process alive.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._stopped = True
            thread = self._thread
        fork.unwatch(self)
        in_time = True
        if thread is not None and thread.is_alive():
            self._signals.put(_Stop())
            thread.join(max(0.0, deadline - time.monotonic()))
            in_time = not thread.is_alive()
        if self.dropped or self.failures:
            _LOGGER.warning(
                "%d steps were left out because the queue was full, %d errors came up while sending",
                self.dropped,
                self.failures,
            )
        return in_time

    def _run(
        self, records: deque[Record], signals: SimpleQueue[threading.Event | _Stop | None]
    ) -> None:
        signal: threading.Event | _Stop | None = None
        while not isinstance(signal, _Stop):
            try:
                signal = signals.get(timeout=self._interval_s)
            except Empty:
                signal = None
            self._woken = False
            self._slots = 0
            for _ in range(len(records)):
                error = self._guarded(self._handle, records.popleft())
                self._handled[error] = self._handled.get(error, 0) + 1
            self._guarded(self._idle)
            if isinstance(signal, threading.Event):
                self._guarded(self._export)
                signal.set()
        self._guarded(self._close)

    def _guarded(self, function: Callable[..., None], *arguments: Record) -> str:
        """Call `function` and return the type of what it raised; empty where it did not."""
        try:
            function(*arguments)
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                _LOGGER.exception(
                    "Spans were lost; training goes on, and further errors are only counted"
                )
            return type(error).__qualname__
        return ""
