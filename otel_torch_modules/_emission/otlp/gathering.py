"""Repeated records on their way to the outboxes: those that are alike are encoded together.

Most of what a small record costs is done once for each, and not for each span. It is done once for all that
the worker handles in a row, and what is written of each is what would be written of it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otel_torch_modules._emission.ids import generate_span_ids
from otel_torch_modules._emission.otlp.outbox import Outbox, Repeated
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._spans.span import Span
from otel_torch_modules._texts import error_type

_MOST_SPANS = 1_024  # of all of them: less than a millisecond


class Gathering:
    """Records of one layout that one decision of the sampler is true of.

    Args:
        layout: theirs.
        flags: the trace flags.
        outboxes: where they go, at least one.
        deliveries: is told what becomes of them.
        ids: makes ids for their spans.
        rest: makes what the encoder takes of the spans that no layout knows of.
    """

    def __init__(
        self,
        layout: Layout,
        flags: int,
        outboxes: Sequence[Outbox],
        deliveries: Deliveries,
        ids: IdGenerator,
        rest: Callable[[list[Span]], RecordSpans],
    ) -> None:
        self._layout = layout
        self._flags = flags
        self._outboxes = outboxes
        self._deliveries = deliveries
        self._ids = ids
        self._rest = rest
        self._most = min(outbox.at_once for outbox in outboxes)
        self._records: list[Repeated] = []
        self._spans = 0

    def takes(self, columns: SpanColumns) -> bool:
        """Return whether `columns` may be encoded with those that were added."""
        trace = columns.heads[0].trace
        size = len(columns.starts) + len(columns.between) + len(columns.passing)
        return (
            columns.layout is self._layout
            and trace.trace_flags == self._flags
            and not trace.trace_state
            and not trace.attributes
            and size <= self._most
            and self._spans + size <= _MOST_SPANS
        )

    def add(self, columns: SpanColumns) -> None:
        """Give `columns`, those of the record that is being assembled, their ids, and keep them until `send`."""
        heads, unlaid = columns.heads, columns.unlaid
        of_layout = len(columns.starts) - len(heads)
        drawn = generate_span_ids(self._ids, of_layout + len(unlaid))
        pause_after(len(drawn))
        columns.span_ids = [head.span_id for head in heads] + drawn[:of_layout]
        for span, span_id in zip(unlaid, drawn[of_layout:], strict=True):
            span.span_id = span_id
        rest = self._rest([*heads, *columns.derived, *columns.spans_apart(columns.span_ids)])
        self._records.append(Repeated(columns, rest, self._deliveries.hold()))
        self._spans += len(drawn)

    @property
    def is_full(self) -> bool:
        """Whether it takes no other."""
        return self._spans > self._most and len(self._records) == 1

    def send(self) -> BaseException | None:
        """Encode them, for each outbox; return an error that has cost a record, if there was any."""
        lost: BaseException | None = None
        for outbox in self._outboxes:
            lost = self._put(outbox, self._records) or lost
        for record in self._records:
            self._deliveries.let_go(record.delivery)
        return lost

    def _put(self, outbox: Outbox, records: Sequence[Repeated]) -> BaseException | None:
        try:
            outbox.put_repeated(records, self._flags)
        except BaseException as error:
            if is_interruption(error):
                raise
            if len(records) > 1:  # one of them is odd, which costs no other
                lost = [self._put(outbox, [record]) for record in records]
                return next(filter(None, lost), None)
            (record,) = records
            if record.delivery is not None:
                record.delivery.error = error_type(error)
            return error
        return None
