"""What became of the records: which were sent, which got lost and by what error.

A record is done when it has been assembled and every request that holds a part of it has been answered. It counts as
sent where all of them were taken, else by the error that came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from otel_torch_modules import semconv
from otel_torch_modules._records import Record
from otel_torch_modules._texts import error_type

_SENT = ""


class Delivery:
    """One record on its way: what is left to happen to it, and what went wrong."""

    __slots__ = ("error", "kind", "open")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        # Its assembly, who holds it, and the requests with some of it that were not answered.
        self.open = 1
        self.error = _SENT


class Deliveries:
    """Counts records, for the metrics, for the next step and for the last line of the log."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from nothing: in a forked child, for what the parent sends is its own to say."""
        self._done: Counter[tuple[str, str]] = Counter()
        self.recorded: Counter[str] = Counter()
        """How many records came to the queue, by kind."""
        self.lost = 0
        """How many of them were not sent, until now."""
        self.progress = 0
        """Grows with all that is done: a record assembled, some of its spans encoded, a request answered."""
        self.current: Delivery | None = None
        """The record that is being assembled."""

    def lose(self, kind: str, error: str) -> None:
        """Count a record that was lost by `error`."""
        self._done[kind, error] += 1
        self.lost += 1

    @contextmanager
    def assembling(self, record: Record) -> Iterator[None]:
        """Know whose the spans are that are made meanwhile; what is raised loses the record."""
        delivery = self.current = Delivery(record.kind)
        try:
            yield
        except BaseException as error:
            delivery.error = error_type(error)
            raise
        finally:
            self.current = None
            self.progress += 1
            self._close(delivery)

    def spoil(self, error: str) -> None:
        """Take note that the record that is being assembled gets lost by `error`."""
        if self.current is not None:
            self.current.error = error

    def hold(self) -> Delivery | None:
        """Return the record that is being assembled, which is not done before `let_go`: it waits to be encoded."""
        if self.current is not None:
            self.current.open += 1
        return self.current

    def let_go(self, delivery: Delivery | None) -> None:
        """Take note that a record that was held waits no more."""
        if delivery is not None:
            self._close(delivery)

    def join(self, request: list[Delivery], delivery: Delivery | None) -> None:
        """Take note that a record has a part in `request`."""
        self.progress += 1
        if delivery is not None and (not request or request[-1] is not delivery):
            delivery.open += 1
            request.append(delivery)

    def answered(self, request: list[Delivery], error: str) -> None:
        """Take note of what became of `request`."""
        self.progress += 1
        for delivery in request:
            delivery.error = delivery.error or error
            self._close(delivery)

    def _close(self, delivery: Delivery) -> None:
        delivery.open -= 1
        if not delivery.open:
            if delivery.error:
                self.lose(delivery.kind, delivery.error)
            else:
                self._done[delivery.kind, _SENT] += 1

    def outcomes(self) -> dict[str, int]:
        """Return how many records are done with, by the error that lost them; empty for those that were sent."""
        counts = {_SENT: 0, semconv.QUEUE_FULL: 0}
        for (_, error), count in dict(self._done).items():
            counts[error] = counts.get(error, 0) + count
        return counts

    def sent(self, kind: str) -> int:
        """Return how many records of a kind were sent."""
        return self._done[kind, _SENT]
