"""Encoded spans that wait to be sent, gathered into requests of bounded size.

It is to encoded spans what a `BatchSpanProcessor` is to finished ones, without a queue that could overflow: the worker
that fills it also empties it, and takes no further record while requests wait for a receiver that takes none.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)

from otel_torch_modules import semconv
from otel_torch_modules._emission import sdk
from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.otlp.columns import ColumnsEncoder, EncodedBlock
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.request_exporter import (
    MOST_BYTES,
    EncodedRequest,
    RequestExporter,
    pauses,
)
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.deliveries import Deliveries, Delivery
from otel_torch_modules._engine.pauses import pause
from otel_torch_modules._odd_values import read, whole
from otel_torch_modules._spans.columns import SpanColumns

_MOST_SPANS = 2_048
_DELAY_MS = 500
_LEAST_BYTES = 1 << 16  # of spans in a request, however much is around them
_SLICE = 256  # spans encoded at once: less than a millisecond, in JSON too

# Of requests that wait for an answer: from the first on no further record is taken, which has its place in the queue;
# the second bounds what several exporters, of which one takes nothing, and very large records may come to.
_ENOUGH_BYTES = 4 << 20
_TOO_MANY_BYTES = 64 << 20

_MOST_OBEYED_S = (
    300.0  # of the pause that a receiver asks for: its clock may be wrong, and steps wait in memory
)


# What else they say is told where a provider of ours is made.
_RULES = {OTEL_BSP_SCHEDULE_DELAY: whole(1), OTEL_BSP_MAX_EXPORT_BATCH_SIZE: whole(1)}


class _Unsent(NamedTuple):
    request: EncodedRequest
    deliveries: list[Delivery]  # whose spans it holds


class Repeated(NamedTuple):
    """A record that is like one before it, to be encoded."""

    columns: SpanColumns  # with ids
    rest: RecordSpans  # what the columns leave to others
    delivery: Delivery | None


class Outbox:
    """Gathers encoded spans into requests and sends them.

    ``OTEL_BSP_SCHEDULE_DELAY`` says how long spans may wait, and ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` how many of them
    make a request. A request that may be tried again stays here, and the others behind it, until it is taken.

    Args:
        exporter: where requests go.
        encoder: makes them.
        deliveries: is told what became of them.
        clock: seconds.
    """

    def __init__(
        self,
        exporter: RequestExporter,
        encoder: SpanEncoder,
        deliveries: Deliveries,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.exporter = exporter
        self.encoder = encoder
        self._deliveries = deliveries
        self._clock = clock
        given = read(os.environ, _RULES).values
        self._delay_s = int(given.get(OTEL_BSP_SCHEDULE_DELAY, _DELAY_MS)) / 1e3
        self._most_spans = int(given.get(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, _MOST_SPANS))
        # A resource may say much, as annotations of a pod do, and each request has it.
        self._most_bytes = max(MOST_BYTES - encoder.bytes_around, _LEAST_BYTES)
        self.at_once = min(_SLICE, self._most_spans)
        """How many spans are encoded at once."""
        self._columns_encoder = ColumnsEncoder(encoder, self.at_once)
        self.after_fork_in_child()
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's spans: the parent sends them."""
        self._clear()
        self._waiting: deque[_Unsent] = deque()
        self._waiting_bytes = 0
        self._pauses = pauses()
        self._due = 0.0  # when to try again
        self._earliest = 0.0  # when to try again where somebody waits for it

    def _clear(self) -> None:
        self._encoded: dict[str, list[bytes]] = {}  # by the part of the services
        self._gathered: list[Delivery] = []
        self._bytes = 0
        self._spans = 0
        self._since = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes more than it has."""
        return self._waiting_bytes < _ENOUGH_BYTES

    def put(self, batch: RecordSpans) -> None:
        """Take all spans of `batch`."""
        delivery = self._deliveries.current
        for (block,) in self._encode([batch]):
            self._add(block, delivery)
        self._deliveries.joined_whole(self._gathered, delivery)

    def put_repeated(self, records: Sequence[Repeated], flags: int) -> None:
        """Take all spans of `records`; what is raised where there are several is raised before any is taken.

        Args:
            records: of one layout; where there are several, each has no more spans than `at_once`.
            flags: the trace flags.
        """
        blocks = chain(
            self._columns_encoder.encode([record.columns for record in records], flags),
            self._encode([record.rest for record in records]),
        )
        if len(records) == 1:  # it may be large: each block is taken before the next is written
            for (block,) in blocks:
                self._add(block, records[0].delivery)
            self._deliveries.joined_whole(self._gathered, records[0].delivery)
            return
        for record, of_record in zip(records, list(zip(*blocks, strict=True)), strict=True):
            for block in of_record:
                self._add(block, record.delivery)
            self._deliveries.joined_whole(self._gathered, record.delivery)

    def _encode(self, batches: Sequence[RecordSpans]) -> Iterator[list[EncodedBlock]]:
        """Yield the spans of each batch, some of each at a time."""
        encoder, services = self.encoder, self.encoder.services
        for part in services.parts:
            spans_of = [
                spans
                if len(services.parts) == 1
                else [span for span in spans if services.part_of(span.phase) == part]
                for spans in [batch.root_last for batch in batches]
            ]
            for start in range(0, max(map(len, spans_of)), self.at_once):
                if start:
                    pause()
                some = [spans[start : start + self.at_once] for spans in spans_of]
                encoded = encoder.encode(list(zip(batches, some, strict=True)))
                counts = map(len, some)
                yield list(map(EncodedBlock, encoded, counts, repeat(part)))

    def _add(self, block: EncodedBlock, delivery: Delivery | None) -> None:
        data, spans, part = block
        if len(data) <= self._most_bytes:
            pieces: Iterable[tuple[bytes, int]] = ((data, spans),) if spans else ()
        else:
            pieces = self.encoder.language.split(data, spans, self._most_bytes)
        for encoded, count in pieces:
            if (
                self._bytes + len(encoded) > self._most_bytes
                or self._spans + count > self._most_spans
            ):
                self._seal()
                self._try()
            if not self._encoded:
                self._since = self._clock()
            self._deliveries.join(self._gathered, delivery)
            self._encoded.setdefault(part, []).append(encoded)
            self._bytes += len(encoded)
            self._spans += count

    def idle(self) -> None:
        """Send what has waited long enough."""
        if self._spans and self._clock() - self._since >= self._delay_s:
            self._seal()
        self._try()

    def send(self) -> bool:
        """Send what there is, for somebody who waits, with the shortest pauses; return whether all was answered."""
        self._seal()
        self._due = min(self._due, self._earliest)
        self._try()
        return not self._waiting

    def _seal(self) -> None:
        """Make a request of what was gathered."""
        if self._spans:
            request = self.encoder.request_of_parts(self._encoded, self._spans)
            self._waiting.append(_Unsent(request, self._gathered))
            self._waiting_bytes += len(request.data)
            self._clear()
        while self._waiting_bytes > _TOO_MANY_BYTES:
            self._answered(semconv.QUEUE_FULL)

    def _try(self) -> None:
        """Send requests until one has to be tried again."""
        while self._waiting and self._clock() >= self._due:
            with sdk.uninstrumented():
                answer = self.exporter.export_request(self._waiting[0].request)
            if answer.again:
                now, asked_s = self._clock(), min(answer.after_s, _MOST_OBEYED_S)
                self._due = now + max(asked_s, answer.rest_s, next(self._pauses))
                self._earliest = now + max(asked_s, next(pauses()))
                return
            if answer.arrives:
                self._deliveries.arrived(self._waiting[0].deliveries)
            self._answered(answer.error)
            self._pauses = pauses()

    def _answered(self, error: str) -> None:
        request, deliveries = self._waiting.popleft()
        self._waiting_bytes -= len(request.data)
        self._deliveries.answered(deliveries, error)


def answering_first(outboxes: Iterable[Outbox]) -> list[Outbox]:
    """Return `outboxes` in an order in which none waits for a receiver that is silent, as far as that is known."""
    return sorted(outboxes, key=lambda outbox: not outbox.exporter.answers)
