"""OTLP as JSON, a line for each request, as the Collector's file exporter writes it.

What OTLP asks of JSON beyond protobuf's own mapping is that ids are hexadecimal and enums are numbers:
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._events import Varying

_IDS = {"trace_id": "traceId", "span_id": "spanId", "parent_span_id": "parentSpanId"}


class Json:
    """What `otlp_file` writes."""

    name = "json"
    between = b","
    sized = frozenset((bool, int, float, str, tuple))

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return the items of the list ``spans``."""
        scope_spans = encode_spans(spans).resource_spans[0].scope_spans[0]
        return b",".join(_span(span) for span in scope_spans.spans)

    def around(self, span: ReadableSpan) -> tuple[bytes, bytes]:
        """Return what a line begins with, and what it ends with."""
        request = encode_spans([span])
        request.resource_spans[0].scope_spans[0].ClearField("spans")
        message = _mapped(request)
        message["resourceSpans"][0]["scopeSpans"][0]["spans"] = []
        before, _, after = _text(message).rpartition(b'"spans":[]')
        return before + b'"spans":[', b"]" + after + b"\n"

    def request(self, resource: bytes, scope: bytes, spans: Iterable[bytes]) -> bytes:
        """Return the line."""
        return b"".join((resource, b",".join(spans), scope))

    def split(self, encoded: bytes, span_count: int, most: int) -> Iterable[tuple[bytes, int]]:
        """Yield all: a line may be as long as it is."""
        return [(encoded, span_count)]

    def trace_id(self, trace_id: int) -> bytes:
        """Return 32 digits."""
        return b"%032x" % trace_id

    def span_ids(self, span_ids: Sequence[int]) -> Pieces:
        """Return 16 digits each."""
        digits = "%016x" * len(span_ids) % tuple(span_ids)
        return struct.unpack("16s" * len(span_ids), digits.encode())

    def times(self, times: Sequence[int]) -> Pieces:
        """Return decimal digits."""
        return tuple(("%d " * len(times) % tuple(times)).encode().split())

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return items of the list ``attributes`` that is not empty."""
        before = f',{{"key":{json.dumps(key.name)},"value":'
        if key.type is float and None not in values and isfinite(sum(values)):
            return _finite(before, values)
        write = _VALUES[key.type]
        return [b"" if value is None else f"{before}{write(value)}}}".encode() for value in values]

    def opened(self, span: bytes) -> bytes:
        """Return the span: no lengths are written."""
        return span

    def openings(self, lengths: Iterable[int]) -> list[bytes]:
        """Return what stands between spans."""
        return [b"," for _ in lengths]


def _finite(before: str, values: Sequence[float]) -> list[bytes]:
    # At once, as most of what varies are such: one by one they took half of what a step took to be written.
    item = before.replace("%", "%%") + '{"doubleValue":%r}}\n'
    return (item * len(values) % tuple(values)).encode().split(b"\n")[:-1]


def _double(value: float) -> str:
    # As protobuf's mapping has what no number of JSON's is.
    text = repr(value) if isfinite(value) else f'"{_NO_NUMBERS[str(value)]}"'
    return f'{{"doubleValue":{text}}}'


def _string(value: str) -> str:
    return f'{{"stringValue":{json.dumps(value)}}}'


def _list(value: tuple[str, ...]) -> str:
    if not value:
        return '{"arrayValue":{}}'
    return f'{{"arrayValue":{{"values":[{",".join(map(_string, value))}]}}}}'


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_VALUES: dict[type, Callable[[Any], str]] = {
    bool: lambda value: f'{{"boolValue":{"true" if value else "false"}}}',
    int: lambda value: f'{{"intValue":"{value}"}}',
    float: _double,
    str: _string,
    tuple: _list,
}


def encode_line(request: ExportTraceServiceRequest) -> bytes:
    """Return `request`, whatever is in it, as one line, line feed included."""
    message = _mapped(request)
    for resource_spans, resource_message in zip(
        request.resource_spans, message.get("resourceSpans", ()), strict=True
    ):
        for scope_spans, scope_message in zip(
            resource_spans.scope_spans, resource_message.get("scopeSpans", ()), strict=True
        ):
            for span, span_message in zip(
                scope_spans.spans, scope_message.get("spans", ()), strict=True
            ):
                _write_ids(span, span_message)
    return _text(message) + b"\n"


def _span(span: Any) -> bytes:
    message = _mapped(span)
    _write_ids(span, message)
    return _text(message)


def _write_ids(span: Any, message: dict[str, Any]) -> None:
    """Put hexadecimal ids in the place of what the mapping makes of bytes."""
    for source, target in (
        (span, message),
        *zip(span.links, message.get("links", ()), strict=True),
    ):
        for field, key in _IDS.items():
            if key in target:
                target[key] = getattr(source, field).hex()


def _mapped(message: Any) -> dict[str, Any]:
    mapped: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    return mapped


def _text(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
