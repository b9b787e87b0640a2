"""A worker whose work a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.record_queue import _BYTES_PER_SLOT, _SLOTS_PER_RECORD
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._records import Record


def record(index: int) -> Record:
    return Record("step", index, 0, 0)


EMPTY_RECORD = _BYTES_PER_SLOT * _SLOTS_PER_RECORD


class Handling:
    """Does with records what a test says, and counts them as tracing does."""

    def __init__(
        self,
        handle: Callable[[Record], None],
        deliveries: Deliveries,
        *,
        idle: Callable[[], None] = lambda: None,
        export: Callable[[], Any] = lambda: True,
        close: Callable[[], None] = lambda: None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._handle = handle
        self._deliveries = deliveries
        self._ready = ready
        self.idle = idle
        self.export = lambda: export() is not False
        self.close = close

    @property
    def ready(self) -> bool:
        return self._ready()

    def handle(self, item: Record) -> None:
        with self._deliveries.assembling(item):
            self._handle(item)
            self._deliveries.handed_on()


def make_worker(
    handle: Callable[[Record], None],
    *,
    hand_over: Callable[[], None] = lambda: None,
    look: Callable[[], None] = lambda: None,
    capacity: int = 100,
    interval_s: float = 0.2,
    **given: Any,
) -> Worker:
    """Return a worker with room for so many empty records."""
    deliveries = Deliveries()
    sender = Handling(handle, deliveries, **given)
    return Worker(
        sender,
        deliveries,
        sender.handle,
        hand_over,
        look,
        capacity=capacity * EMPTY_RECORD,
        interval_s=interval_s,
    )
