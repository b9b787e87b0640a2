"""OTLP as protobuf: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._emission.otlp.wire import groups, long_varint, varint

# Tags of fields that hold a message: https://github.com/open-telemetry/opentelemetry-proto
_RESOURCE_SPANS = b"\x0a"  # of ExportTraceServiceRequest
_SCOPE_SPANS = b"\x12"  # of ResourceSpans


class Protobuf:
    """What gRPC and HTTP carry."""

    name = "protobuf"
    between = b""

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return `spans` as fields of ``ScopeSpans``."""
        scope_spans = encode_spans(spans).resource_spans[0].scope_spans[0]
        scope_spans.ClearField("scope")
        scope_spans.ClearField("schema_url")
        encoded: bytes = scope_spans.SerializeToString()
        return encoded

    def around(self, span: ReadableSpan) -> tuple[bytes, bytes]:
        """Return the other fields of ``ResourceSpans`` and ``ScopeSpans``."""
        around = encode_spans([span]).resource_spans[0]
        around.scope_spans[0].ClearField("spans")
        scope: bytes = around.scope_spans[0].SerializeToString()
        around.ClearField("scope_spans")
        return around.SerializeToString(), scope

    def request(self, resource: bytes, scope: bytes, spans: Iterable[bytes]) -> bytes:
        """Return the message with its lengths."""
        parts = [scope, *spans]
        for tag, before in ((_SCOPE_SPANS, resource), (_RESOURCE_SPANS, b"")):
            parts = [before, tag + varint(sum(map(len, parts))), *parts]
        return b"".join(parts)

    def split(self, encoded: bytes, span_count: int, most: int) -> Iterable[tuple[bytes, int]]:
        """Yield as many fields at once as have `most` bytes."""
        return groups(encoded, most)

    def trace_id(self, trace_id: int) -> bytes:
        """Return the highest byte first."""
        return trace_id.to_bytes(16, "big")

    def span_ids(self, span_ids: Sequence[int]) -> Pieces:
        """Return the highest byte first."""
        return _eight_bytes(">", span_ids)

    def times(self, times: Sequence[int]) -> Pieces:
        """Return the lowest byte first."""
        return _eight_bytes("<", times)

    def number(self, number: int) -> bytes:
        """Return as many bytes for all numbers, so that lengths around them are the same."""
        return long_varint(number)


def _eight_bytes(order: str, numbers: Sequence[int]) -> Pieces:
    packed = struct.pack(f"{order}{len(numbers)}Q", *numbers)
    return struct.unpack("8s" * len(numbers), packed)
