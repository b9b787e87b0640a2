"""Pieces of protobuf's wire format: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from collections.abc import Iterator

LONG_VARINT = 9  # bytes; the most that a positive 64-bit integer takes


def varint(number: int) -> bytes:
    """Return `number` as seven bits a byte, the lowest first, in as few bytes as it takes."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def long_varint(number: int) -> bytes:
    """Return a number below 2**63 in nine bytes: the last ones may say nothing, and parsers take that.

    So lengths around it are the same for all numbers.
    """
    encoded = bytearray(varint(number))
    missing = LONG_VARINT - len(encoded)
    if missing:
        encoded[-1] |= 0x80
        encoded += b"\x80" * (missing - 1) + b"\x00"
    return bytes(encoded)


def groups(messages: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    """Yield what `messages` holds, as many of them at once as have `most` bytes, and how many they are.

    One that is longer comes alone.

    Args:
        messages: fields of one number below 16, each a message.
        most: bytes.
    """
    begin = end = count = 0
    while end < len(messages):
        after = _end_of_message(messages, end)
        if count and after - begin > most:
            yield messages[begin:end], count
            begin, count = end, 0
        end = after
        count += 1
    if count:
        yield messages[begin:end], count


def _end_of_message(data: bytes, at: int) -> int:
    length = shift = 0
    while True:
        at += 1  # the tag is one byte
        length |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return at + 1 + length
        shift += 7
