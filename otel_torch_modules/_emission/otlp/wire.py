"""Pieces of protobuf's wire format: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

LONG_VARINT = 10  # bytes; the most that an integer of 64 bits takes


def long_varints(numbers: Sequence[int]) -> tuple[bytes, ...]:
    """Return integers of 64 bits in ten bytes each: the last ones may say nothing, and parsers take that.

    So lengths around them are the same for all numbers, negative ones included.
    """
    written: list[bytes] = []
    begin = 0
    while (left := len(numbers) - begin) > 0:
        varints = _FEW if left <= _FEW.at_once else _MANY
        written += varints.of(numbers[begin : begin + varints.at_once])
        begin += varints.at_once
    return tuple(written)


class _LongVarints:
    """Writes so many at once, as one large integer whose bits are moved apart.

    A loop over the bytes of each would cost twenty times as much.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._numbers = struct.Struct("<" + f"q{LONG_VARINT - 8}x" * at_once)
        self._varints = struct.Struct(f"{LONG_VARINT}s" * at_once)
        # From 64 bits to groups of seven in a byte each, in four steps: which bits stay, which move, and how far.
        self._moves = [
            (self._mask(stay), self._mask(move), by)
            for stay, move, by in (
                ([(0, 56)], [(56, 64)], 8),
                ([(0, 28), (64, 72)], [(28, 56)], 4),
                ([(0, 14), (32, 46), (64, 72)], [(14, 28), (46, 60)], 2),
                (
                    [(begin, begin + 7) for begin in (0, 16, 32, 48, 64)],
                    [(begin + 7, begin + 14) for begin in (0, 16, 32, 48, 64)],
                    1,
                ),
            )
        ]
        self._goes_on = self._mask([(bit, bit + 1) for bit in range(7, 8 * (LONG_VARINT - 1), 8)])

    def of(self, numbers: Sequence[int]) -> tuple[bytes, ...]:
        """Return those of `numbers`, of which there are no more."""
        packed = self._numbers.pack(*numbers, *repeat(0, self.at_once - len(numbers)))
        bits = int.from_bytes(packed, "little")
        for stay, move, by in self._moves:
            bits = bits & stay | (bits & move) << by
        bits |= self._goes_on
        return self._varints.unpack(bits.to_bytes(len(packed), "little"))[: len(numbers)]

    def _mask(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Return a mask of these bits of each of the numbers."""
        mask = sum((1 << end) - (1 << begin) for begin, end in ranges)
        return int.from_bytes(mask.to_bytes(LONG_VARINT, "little") * self.at_once, "little")


_FEW, _MANY = _LongVarints(2), _LongVarints(64)  # a step's own span, the spans of its modules


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
