"""Pieces of protobuf's wire format: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import repeat

LONG_VARINT = 10  # bytes; the most that an integer of 64 bits takes


def long_varints(numbers: Sequence[int]) -> tuple[bytes, ...]:
    """Return integers of 64 bits in ten bytes each: the last ones may say nothing, and parsers take that.

    So lengths around them are the same for all numbers, negative ones included. Many are written at once, as one large
    integer whose bits are moved apart: a loop over the bytes of each would cost twenty times as much.
    """
    written: list[bytes] = []
    for begin in range(0, len(numbers), _AT_ONCE):
        some = numbers[begin : begin + _AT_ONCE]
        packed = _NUMBERS.pack(*some, *repeat(0, _AT_ONCE - len(some)))
        bits = int.from_bytes(packed, "little")
        for stay, move, by in _MOVES:
            bits = bits & stay | (bits & move) << by
        bits |= _GOES_ON
        written += _VARINTS.unpack(bits.to_bytes(_AT_ONCE * LONG_VARINT, "little"))[: len(some)]
    return tuple(written)


def _all_at_once(*ranges: tuple[int, int]) -> int:
    """Return a mask of these bits of each of the numbers."""
    mask = sum((1 << end) - (1 << begin) for begin, end in ranges)
    return int.from_bytes(mask.to_bytes(LONG_VARINT, "little") * _AT_ONCE, "little")


_AT_ONCE = 64
_NUMBERS = struct.Struct("<" + f"q{LONG_VARINT - 8}x" * _AT_ONCE)
_VARINTS = struct.Struct(f"{LONG_VARINT}s" * _AT_ONCE)
# From 64 bits to groups of seven in a byte each, in four steps: which bits stay, which move, and how far.
_MOVES = (
    (_all_at_once((0, 56)), _all_at_once((56, 64)), 8),
    (_all_at_once((0, 28), (64, 72)), _all_at_once((28, 56)), 4),
    (
        _all_at_once((0, 14), (32, 46), (64, 72)),
        _all_at_once((14, 28), (46, 60)),
        2,
    ),
    (
        _all_at_once(*((begin, begin + 7) for begin in (0, 16, 32, 48, 64))),
        _all_at_once(*((begin + 7, begin + 14) for begin in (0, 16, 32, 48, 64))),
        1,
    ),
)
_GOES_ON = _all_at_once(*((bit, bit + 1) for bit in range(7, 8 * (LONG_VARINT - 1), 8)))


def groups(messages: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    """Yield what `messages` holds, as many of them at once as have `most` bytes, and how many they are.

    One that is longer comes alone.

    Args:
        messages: fields of one number below 16, each a message.
        most: bytes.
    """
    begin = end = count = 0
    while end < len(messages):
        _, after = _bounds(messages, end)
        if count and after - begin > most:
            yield messages[begin:end], count
            begin, count = end, 0
        end = after
        count += 1
    if count:
        yield messages[begin:end], count


def message_in(field: bytes) -> bytes:
    """Return the message that is the whole of a field."""
    begin, end = _bounds(field, 0)
    if end != len(field):
        raise ValueError(f"a field of {end} bytes, in {len(field)}")
    return field[begin:]


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Return where the message of the field that begins at `at` begins and ends."""
    length = shift = 0
    while True:
        at += 1  # the tag is one byte
        length |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return at + 1, at + 1 + length
        shift += 7
