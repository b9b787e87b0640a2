"""OTLP as protobuf: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._emission.otlp.wire import LONG_VARINT, groups, long_varints, message_in
from otel_torch_modules._events import Varying
from otel_torch_modules._varint import varint

# Tags of fields, most of which hold a message: https://github.com/open-telemetry/opentelemetry-proto
_RESOURCE_SPANS = b"\x0a"  # of ExportTraceServiceRequest
_SCOPE_SPANS = b"\x12"  # of ResourceSpans
_SPAN = b"\x12"  # of ScopeSpans
_ATTRIBUTE = b"\x4a"  # of Span
_KEY, _VALUE = b"\x0a", b"\x12"  # of KeyValue
# Of AnyValue.
_STRING_VALUE, _BOOL_VALUE, _INT_VALUE, _DOUBLE_VALUE = b"\x0a", b"\x10", b"\x18", b"\x21"
_ARRAY_VALUE = b"\x2a"
_ITEM = b"\x0a"  # of ArrayValue


class Protobuf:
    """What gRPC and HTTP carry."""

    name = "protobuf"
    between = b""
    sized = frozenset((bool, int, float))

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

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return fields of ``Span``."""
        known = (
            values if values.count(None) == 0 else [value for value in values if value is not None]
        )
        written = _WRITERS[key.type](key.name, known)
        if known is values:
            return written
        rest = iter(written)
        return [b"" if value is None else next(rest) for value in values]

    def opened(self, span: bytes) -> bytes:
        """Return the message without tag and length."""
        return message_in(span)

    def openings(self, lengths: Iterable[int]) -> list[bytes]:
        """Return the tag and the length."""
        most = len(_OPENINGS)
        return [
            _OPENINGS[length] if length < most else _SPAN + varint(length) for length in lengths
        ]


_OPENINGS = [_SPAN + varint(length) for length in range(2_048)]


def _field(tag: bytes, *content: bytes) -> bytes:
    return b"".join((tag, varint(sum(map(len, content))), *content))


@lru_cache(maxsize=256)
def _before(name: str, tag: bytes, length: int) -> bytes:
    """Return an attribute up to its value, which takes so many bytes."""
    key = _field(_KEY, name.encode())
    value = _VALUE + varint(len(tag) + length) + tag
    return _ATTRIBUTE + varint(len(key) + len(value) + length) + key + value


def _booleans(name: str, values: Sequence[bool]) -> list[bytes]:
    before = _before(name, _BOOL_VALUE, 1)
    return [before + (b"\x01" if value else b"\x00") for value in values]


def _integers(name: str, values: Sequence[int]) -> list[bytes]:
    before = _before(name, _INT_VALUE, LONG_VARINT)
    return [before + written for written in long_varints(values)]


def _doubles(name: str, values: Sequence[float]) -> list[bytes]:
    before = _before(name, _DOUBLE_VALUE, 8)
    packed = struct.pack(f"<{len(values)}d", *values)
    return [before + written for written in struct.unpack("8s" * len(values), packed)]


def _texts(name: str, values: Sequence[str]) -> list[bytes]:
    return [_text(name, value) for value in values]


def _lists(name: str, values: Sequence[tuple[str, ...]]) -> list[bytes]:
    return [_list(name, value) for value in values]


# Texts that vary are most often among a few: shapes, names.
@lru_cache(maxsize=1_024)
def _text(name: str, value: str) -> bytes:
    return _attribute(name, _field(_STRING_VALUE, value.encode(errors="replace")))


@lru_cache(maxsize=1_024)
def _list(name: str, value: tuple[str, ...]) -> bytes:
    items = (_field(_ITEM, _field(_STRING_VALUE, text.encode(errors="replace"))) for text in value)
    return _attribute(name, _field(_ARRAY_VALUE, *items))


def _attribute(name: str, value: bytes) -> bytes:
    return _field(_ATTRIBUTE, _field(_KEY, name.encode()), _field(_VALUE, value))


_WRITERS: dict[type, Callable[[str, Sequence[Any]], list[bytes]]] = {
    bool: _booleans,
    int: _integers,
    float: _doubles,
    str: _texts,
    tuple: _lists,
}


def _eight_bytes(order: str, numbers: Sequence[int]) -> Pieces:
    packed = struct.pack(f"{order}{len(numbers)}Q", *numbers)
    return struct.unpack("8s" * len(numbers), packed)
