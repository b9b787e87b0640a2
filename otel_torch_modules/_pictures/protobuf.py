"""Fields in protobuf's encoding: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from otel_torch_modules._varint import varint

_VARINT, _FIXED64, _LENGTH = 0, 1, 2


def number(field: int, value: int) -> bytes:
    """Return a field of an integer, an enumeration or a boolean."""
    return varint(field << 3 | _VARINT) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """Return a field of 64 bits."""
    return varint(field << 3 | _FIXED64) + value.to_bytes(8, "little")


def message(field: int, content: bytes) -> bytes:
    """Return a field of a message."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """Return a field of a text."""
    return message(field, content.encode("utf-8", "replace"))
