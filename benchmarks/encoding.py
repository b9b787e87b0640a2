"""Encoding a span: ours, with the templates made, beside the standard encoder.

    python -m benchmarks.encoding [--quick]

Both end with the bytes of requests that say the same. Ours begins with the assembled spans, or with the columns of a
step that is like an earlier one; the standard encoder with the `ReadableSpan` objects that were made of them before,
which is not counted. Processor time of the thread, in turn; the garbage collector is off while the clock runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians
from benchmarks.machine import processor_ns
from benchmarks.part import print_rows
from benchmarks.recorded import record_steps
from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.ids import UrandomIdGenerator, generate_span_ids
from otel_torch_modules._emission.otlp.columns import ColumnsEncoder
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._spans.columns import SpanColumns

_REQUEST = 512  # spans, the standard batch
_BAR = 20


def measure(enough: Enough) -> dict[str, list[float]]:
    """Return microseconds a span, once a round: of spans, of columns and of the standard encoder.

    Raises:
        AssertionError: they do not say the same.
    """
    assembler = Assembler(Config())
    *_, columns = [assembler.assemble(record) for record in record_steps(blocks=200, count=4)]
    assert isinstance(columns, SpanColumns)
    columns.between = []  # as many as the machine makes
    spans = list(columns.tree().walk())
    columns.span_ids = ids = generate_span_ids(UrandomIdGenerator(), len(spans))
    for span, span_id in zip(spans, ids, strict=True):
        span.span_id = span_id
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer(semconv.SCOPE_NAME)
    scope = InstrumentationScope(semconv.SCOPE_NAME, version("otel-torch-modules"))
    decision = Decision(1, None)
    encoder = SpanEncoder(tracer, scope, Protobuf())
    columns_encoder = ColumnsEncoder(encoder, _REQUEST)
    batches = [spans[start : start + _REQUEST] for start in range(0, len(spans), _REQUEST)]
    shared = RecordSpans(spans, decision, tracer, scope)
    finished = [[shared.finished(span) for span in batch] for batch in batches]

    def of_spans() -> list[bytes]:
        record = RecordSpans(spans, decision, tracer, scope)
        return [
            encoder.request(encoder.encode([(record, batch)]), len(batch)).data for batch in batches
        ]

    def of_columns() -> list[bytes]:
        heads = RecordSpans(columns.heads, decision, tracer, scope)
        blocks = [block for (block,) in columns_encoder.encode([columns], 1)]
        return [
            encoder.request(encoder.encode([(heads, columns.heads)]), len(columns.heads)).data,
            *(encoder.request([block.data], block.span_count).data for block in blocks),
        ]

    def standard() -> list[bytes]:
        return [encode_spans(batch).SerializeToString() for batch in finished]

    expected = _said(standard())
    if any(_said(way()) != expected for way in (of_spans, of_columns)):
        raise AssertionError("the encoders do not say the same")
    ways = {"spans": of_spans, "columns": of_columns, "standard": standard}
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in enough.rounds(lambda: _rows(figures)):
        for name, way in ways.items():
            figures[name].append(processor_ns(way) / len(spans) / 1e3)
    return figures


def _times_as_fast(figures: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    return {
        way: ratio_of_medians(figures["standard"], figures[way]) for way in ("spans", "columns")
    }


def _said(requests: list[bytes]) -> list[bytes]:
    """Return the spans of `requests`, in an order of their own."""
    return sorted(
        span.SerializeToString()
        for request in requests
        for resource_spans in ExportTraceServiceRequest.FromString(request).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    )


def beside_the_standard_encoder(enough: Enough) -> list[Row]:
    """Compare with the standard encoder."""
    return _rows(measure(enough))


COMPARISONS = (beside_the_standard_encoder,)


def _rows(figures: Mapping[str, Sequence[float]]) -> list[Row]:
    theirs = figures["standard"]
    return [
        Row(
            f"encoding a span{of}: how many times as fast as the standard encoder",
            _BAR,
            "x",
            times,
            at_least=True,
            note=f"{median(figures[name]).value:.2f} and {median(theirs).value:.2f} µs a span",
        )
        for (name, times), of in zip(
            _times_as_fast(figures).items(), ("", " of a step like one before"), strict=True
        )
    ]


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
