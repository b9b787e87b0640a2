"""Reads spans from an ``ExportTraceServiceRequest`` in protobuf's encoding.

Attributes are looked at once for each sequence of bytes, as in JSON.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import OF_A_SITE, Arrivals
from otel_torch_modules._reading.damage import Damage, MissingSpan
from otel_torch_modules._reading.json_entries import STATUS_ERROR, exception_text
from otel_torch_modules._reading.other_signals import signal_of_message
from otel_torch_modules._trace import Remark

_MOST_KNOWN = 1 << 16


class ProtobufReader:
    """Reads requests of one source into `arrivals`; what of them is no span is told to `damage`."""

    def __init__(self, arrivals: Arrivals, damage: Damage) -> None:
        self._arrivals = arrivals
        self._damage = damage
        self._known: dict[tuple[str, bytes], tuple[int, dict[str, Any]]] = {}

    def read(self, number: int, message: bytes) -> None:
        """Read the request that is the one numbered `number`, from 1 on, of its source."""
        try:
            request = ExportTraceServiceRequest.FromString(message)
        except DecodeError:
            request = None
        if request is None or not _begins_with_a_span(request):
            signal = signal_of_message(message)
            if signal is not None:
                self._damage.other_signals.add(signal)
                return
        if request is None:
            self._damage.requests.append(number)
            if self._arrivals.last is not None:
                self._damage.places.append(MissingSpan(*self._arrivals.last))
            return
        for of_resource in request.resource_spans:
            spans = [span for of_scope in of_resource.scope_spans for span in of_scope.spans]
            if not spans:
                continue
            process = self._arrivals.process(_attributes(of_resource.resource.attributes))
            for span in spans:
                self._read_span(span, process)

    def _read_span(self, span: Span, process: int) -> None:
        if not _has_ids(span):
            self._damage.spans += 1
            if span.trace_id:
                place = MissingSpan(span.trace_id.hex(), span.start_time_unix_nano)
                self._damage.places.append(place)
            return
        site, varying = self._site(span)
        self._arrivals.add(
            span.trace_id.hex(),
            int.from_bytes(span.span_id, "big"),
            int.from_bytes(span.parent_span_id[:8], "big"),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            process,
            site,
            Remark(varying, span.status.code == STATUS_ERROR, _exception(span)),
            next(
                (
                    int.from_bytes(link.span_id[:8], "big")
                    for link in span.links
                    if link.trace_id == span.trace_id
                ),
                0,
            ),
        )

    def _site(self, span: Span) -> tuple[int, dict[str, Any]]:
        # A number that varies would make all attributes of each span new: it is read by itself.
        numbers = [pair for pair in span.attributes if _varies(pair)]
        others = (
            [pair for pair in span.attributes if not _varies(pair)] if numbers else span.attributes
        )
        key = (span.name, b"".join([pair.SerializeToString() for pair in others]))
        found = self._known.get(key)
        if found is None:
            if len(self._known) == _MOST_KNOWN:
                self._known.clear()
            found = self._arrivals.site(printable(span.name), _attributes(others))
            self._known[key] = found
        site, varying = found
        return site, {**varying, **_attributes(numbers)} if numbers else varying


def _begins_with_a_span(request: ExportTraceServiceRequest) -> bool:
    """Return whether the first of the spans is one: a metric or a line of a log, read as a span, has no time."""
    spans = (
        span
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    )
    return all(_has_ids(span) and span.start_time_unix_nano for span in islice(spans, 1))


def _has_ids(span: Span) -> bool:
    return len(span.trace_id) == 16 and len(span.span_id) == 8 and any(span.span_id)


def _varies(pair: KeyValue) -> bool:
    return pair.value.HasField("double_value") and pair.key not in OF_A_SITE


def _exception(span: Span) -> str:
    said = ""
    for event in span.events:
        if event.name == semconv.EXCEPTION_EVENT:
            about = {pair.key: pair.value.string_value for pair in event.attributes}
            said = exception_text(
                *(
                    about.get(key) or None
                    for key in (semconv.EXCEPTION_TYPE, semconv.EXCEPTION_MESSAGE)
                )
            )
    return said


def _attributes(pairs: Any) -> dict[str, Any]:
    return {printable(pair.key): _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return printable(value.string_value)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
