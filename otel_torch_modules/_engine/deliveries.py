"""What became of the records: which were sent, which got lost and by what error.

A record is done when it has been assembled and every request that holds a part of it has been answered. It counts as
sent where all of them were taken, else by the error that came first.

A step that is put takes with it how many were lost of which none has told yet: its last span says so. Where that span
does not arrive, the next one that is put has the number too.
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

    __slots__ = ("error", "kind", "open", "tellers", "untold")

    def __init__(self, record: Record) -> None:
        self.kind = record.kind
        # Its assembly, who holds it, and the requests with some of it that were not answered.
        self.open = 1
        self.error = _SENT
        # How many lost ones it tells of, until somebody has taken the span that says so.
        self.untold = record.dropped_before
        # The requests with that span, one for each receiver.
        self.tellers: list[list[Delivery]] = []


class Deliveries:
    """Counts records, for the metrics, for the next step and for the last line of the log."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from nothing: in a forked child, for what the parent sends is its own to say."""
        self._done: Counter[tuple[str, str]] = Counter()
        self.recorded: Counter[str] = Counter()
        """How many records came to the queue, by kind."""
        self.untold = 0
        """How many of them were lost of which no step tells that is on its way, or has arrived."""
        self.progress = 0
        """Grows with all that is done: a record assembled, some of its spans encoded, a request answered."""
        self.current: Delivery | None = None
        """The record that is being assembled."""

    def tell(self, step: Record) -> None:
        """Let `step`, which is put, tell of what was lost. Threads may race to: each number is given to one."""
        step.dropped_before, self.untold = self.untold, 0

    def lose(self, kind: str, error: str, told: int = 0) -> None:
        """Count a record that was lost by `error`, and again the lost ones of which it would have told."""
        self._done[kind, error] += 1
        self.untold += told + (kind != "stall")  # that is a copy of what is told of by itself

    @contextmanager
    def assembling(self, record: Record) -> Iterator[None]:
        """Know whose the spans are that are made meanwhile; what is raised loses the record."""
        delivery = self.current = Delivery(record)
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

    def joined_whole(self, request: list[Delivery], delivery: Delivery | None) -> None:
        """Take note that the last span of a record is in `request`."""
        if delivery is not None and delivery.untold:
            delivery.tellers.append(request)

    def handed_on(self) -> None:
        """Take note that the record that is being assembled was taken whole by those who do not say what they send."""
        if self.current is not None:
            self.current.untold = 0

    def arrived(self, request: list[Delivery]) -> None:
        """Take note that `request` was taken, or some of it: what it may have told of is not told again, as each step
        would, with a receiver that always takes a part, what all before it have told.
        """
        for delivery in request:
            if delivery.untold and any(teller is request for teller in delivery.tellers):
                delivery.untold = 0

    def answered(self, request: list[Delivery], error: str) -> None:
        """Take note of what became of `request`."""
        self.progress += 1
        for delivery in request:
            delivery.error = delivery.error or error
            self._close(delivery)

    def _close(self, delivery: Delivery) -> None:
        delivery.open -= 1
        if delivery.open:
            return
        if delivery.error:
            self.lose(delivery.kind, delivery.error, delivery.untold)
        else:  # on purpose not sent, where it has not told: a sampler is against it
            self._done[delivery.kind, _SENT] += 1
            self.untold += delivery.untold

    def outcomes(self) -> dict[str, int]:
        """Return how many records are done with, by the error that lost them; empty for those that were sent."""
        counts = {_SENT: 0, semconv.QUEUE_FULL: 0}
        for (_, error), count in dict(self._done).items():
            counts[error] = counts.get(error, 0) + count
        return counts

    def sent(self, kind: str) -> int:
        """Return how many records of a kind were sent."""
        return self._done[kind, _SENT]
