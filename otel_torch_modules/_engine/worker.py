"""The one thread that assembles and sends, so that the training thread never does.

`Worker.put` is all that the training thread calls: it appends to a queue or drops, and never waits. A record is dropped
whole, for half a trace is worse than none; the next step that arrives says how many were.

Small records are handled several at a time. To wake a thread for each costs the training thread as much as recording a
dozen calls does, and takes the interpreter lock and the processor's caches from it each time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol

from otel_torch_modules import semconv
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.device_wait import DeviceWait
from otel_torch_modules._engine.pauses import pause, progress
from otel_torch_modules._engine.record_queue import RecordQueue
from otel_torch_modules._engine.thread_shortage import shortage
from otel_torch_modules._engine.working_time import WorkingTime
from otel_torch_modules._interruption import is_interruption, suppressed, uncovered
from otel_torch_modules._log import report
from otel_torch_modules._own_thread import OwnThread
from otel_torch_modules._records import Record

_LOGGER = logging.getLogger(__name__)

# The thread is woken for so many records, or for so many slots of their logs: about two milliseconds of work. What is
# less waits for the next look at the queue.
_WAKING_RECORDS = 32
_WAKING_SLOTS = 8_192

# Without a pause: small ones, which make none of their own, take about a millisecond.
_RECORDS_IN_A_ROW = 8

_LOOK_S = 0.05  # between two looks at what the thread does, or still has to do, while somebody waits for it


class Sender(Protocol):
    """Where what was handled goes. All may raise."""

    @property
    def ready(self) -> bool:
        """Whether it can take another record: else what it has must be sent first."""

    def idle(self) -> None:
        """Do what is due. Called when what waited has been handled, and every so often."""

    def export(self) -> bool:
        """Try to send all that was handled; return whether nothing is left."""

    def close(self) -> None:
        """End. Called once, after the last record."""


class Worker:
    """A bounded queue of records and one daemon thread, started at the first `put`.

    Args:
        sender: where they go. What it raises, as the next two may, is logged with a traceback the first time and
            counted from then on.
        deliveries: counts what becomes of them.
        handle: what is done with each.
        hand_over: puts what is finished but was not handed over yet; called often.
        look: does what else is due; called as often, when what waited has been handled.
        capacity: bytes of records that may wait.
        interval_s: seconds between two looks at the queue; a record waits no longer while there is nothing else to do.
    """

    def __init__(
        self,
        sender: Sender,
        deliveries: Deliveries,
        handle: Callable[[Record], None],
        hand_over: Callable[[], None],
        look: Callable[[], None],
        *,
        capacity: int,
        interval_s: float = 0.2,
    ) -> None:
        self._sender = sender
        self._deliveries = deliveries
        self._handle = handle
        self._hand_over = hand_over
        self._look = look
        self._interval_s = interval_s
        self.queue = RecordQueue(capacity, self._has_no_room)
        self._device_wait = DeviceWait()
        self._stopped = False
        self._renew()
        fork.watch(self)

    def _renew(self) -> None:
        # Since the thread last looked at the queue; threads may race for them.
        self._records = 0
        self._slots = 0  # of the logs that came
        self._woken = False
        self._signals: SimpleQueue[object] = SimpleQueue()
        self._lock = threading.RLock()  # a signal handler of the program's may train in here
        self._waiting: list[threading.Event] = []  # set when all was exported
        self._thread: threading.Thread | None = None
        self._broken_off = False
        self.failures = 0
        self.working_time = WorkingTime()

    def after_fork_in_child(self) -> None:
        """Forget the parent's records: the parent sends them."""
        self.queue.clear()
        self._deliveries.clear()
        self._renew()

    def outcomes(self) -> dict[str, int]:
        """Return how many records are done with, by what went wrong; those that were sent have an empty string."""
        return self._deliveries.outcomes()

    def lose(self, error_type: str) -> None:
        """Count a record that an error of this type has cost before it could be put."""
        self._deliveries.recorded["step"] += 1
        self._deliveries.lose("step", error_type)

    def _has_no_room(self, record: Record) -> None:
        self._deliveries.lose(record.kind, semconv.QUEUE_FULL, record.dropped_before)

    def start(self) -> None:
        """Start the thread unless it runs, or none can be started now."""
        with self._lock:
            if self._thread is None and not (self._stopped or shortage.lasts()):
                thread = self._thread = OwnThread(
                    target=self._run, args=(self._signals,), name="otel-torch-modules", daemon=True
                )
                try:
                    with shortage:
                        thread.start()
                finally:
                    if thread.ident is None:  # should it run yet, it ends at once
                        self._thread = None

    def put(self, record: Record) -> bool:
        """Hand `record` over without waiting; return False where it was dropped."""
        if self._stopped:
            return False
        self._deliveries.recorded[record.kind] += 1
        if record.kind == "step":
            self._deliveries.tell(record)
        slots = len(record.log)
        if self._thread is None:
            self.start()
        if not self.queue.put(record):
            return False
        self._records += 1
        self._slots += slots
        waits = self._records >= _WAKING_RECORDS or self._slots >= _WAKING_SLOTS
        if waits and not self._woken:
            self._woken = True
            self._signals.put(None)
        return True

    @property
    def hurry(self) -> Callable[[object], None]:
        """What makes the thread try at once to hand over, handle and export all that there is; whatever it is given.

        It is a function in C, which a weak reference may call back.
        """
        return self._signals.put

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put has been handled and exported.

        Return False when nothing at all has been done for `timeout_s`, or the worker has stopped.
        """
        self._replace()
        if self._thread is None:
            return not self.queue
        exported = threading.Event()
        self._signals.put(exported)
        with uncovered():
            self._wait(lambda: self._works and not exported.wait(_LOOK_S), timeout_s)
        in_time = exported.is_set()
        exported.set()  # nobody waits for it any more
        return in_time

    def _replace(self) -> None:
        """Start another thread where records wait for one that is gone."""
        if self._thread is None and self.queue:
            shortage.hurry()
            with suppressed(RuntimeError):  # at the end of the process Python starts none
                self.start()

    @property
    def _works(self) -> bool:
        return self._thread is not None and not self._stopped

    def stop(self, timeout_s: float) -> bool:
        """Handle what was put, close, and end the thread; return False when it was broken off.

        It is when nothing at all has been done for `timeout_s`. The thread is a daemon: one that is still busy does not
        keep the process alive.
        """
        try:
            self._replace()
        finally:  # whatever becomes of another one, this one ends
            with self._lock:
                self._stopped = True
                thread = self._thread
            self._signals.put(None)
            fork.unwatch(self)
        if thread is None:
            while (record := self.queue.take()) is not None:
                self._deliveries.lose(record.kind, RuntimeError.__name__, record.dropped_before)
            return True
        self._broken_off = not self._wait(lambda: _is_busy(thread), timeout_s)
        return not self._broken_off

    def _wait(self, goes_on: Callable[[], bool], timeout_s: float) -> bool:
        """Wait while `goes_on`, which takes `_LOOK_S` to say so; return False when nothing is done for `timeout_s`.

        Looks are counted too: a program may have stopped its clocks, and would never end.
        """
        done, since, looks = self._done(), monotonic(), 0
        while goes_on():
            looks += 1
            if self._done() != done:
                done, since, looks = self._done(), monotonic(), 0
            elif max(monotonic() - since, looks * _LOOK_S) >= timeout_s:
                return False
        return True

    def _done(self) -> int:
        """Return a number that grows with whatever the thread does."""
        return self._deliveries.progress + progress.slices

    def _run(self, signals: SimpleQueue[object]) -> None:
        if self._thread is not threading.current_thread():
            return
        try:
            while not self._broken_off and self._guarded(self._turn, signals):
                pass
            self._guarded(self._sender.close)
        finally:
            if not self._stopped:  # what was raised came from outside, and between two turns
                self._thread = None

    def _turn(self, signals: SimpleQueue[object]) -> bool:
        """Do once what there is to do; return False where that was all, for good."""
        waiting = self._waiting
        try:
            signal = signals.get(timeout=_LOOK_S if waiting or self._stopped else self._interval_s)
        except Empty as error:
            if is_interruption(error):
                raise
            signal = None
        self.working_time.begins()
        if isinstance(signal, threading.Event):
            waiting.append(signal)
        waiting[:] = [exported for exported in waiting if not exported.is_set()]
        ends = self._stopped
        self._woken = False
        self._records = self._slots = 0
        self._device_wait.hurry(bool(waiting) or ends)
        self._guarded(self._hand_over)
        handled = self._handle_what_waits()
        self._guarded(self._look)
        self._guarded(self._sender.idle)
        hurries = signal is not None or waiting or ends
        if hurries and handled and self._guarded(self._sender.export):
            for exported in waiting:
                exported.set()
            waiting.clear()
            if ends:
                return False
        self.working_time.ends()
        return True

    def _handle_what_waits(self) -> bool:
        """Handle what is in the queue now; return False where some of it has to wait."""
        for handled in range(len(self.queue)):
            if handled and not handled % _RECORDS_IN_A_ROW:
                pause()
            if self._broken_off or not self._sender.ready:
                return False
            first = self.queue.first
            if first is not None and self._device_wait.holds(first):
                return False  # with all that come after it, whose trees may depend on it
            record = self.queue.take()
            if record is not None:
                self._guarded(self._handle, record)
        return True

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` and return what it returns; True where it raises."""
        try:
            return function(*arguments)
        except BaseException as error:
            if is_interruption(error):
                raise
            self.failures += 1
            if self.failures == 1:
                report(
                    _LOGGER,
                    "Spans were lost; training goes on, and further errors are only counted",
                    error=error,
                )
        return True


def _is_busy(thread: threading.Thread) -> bool:
    thread.join(_LOOK_S)
    return thread.is_alive()
