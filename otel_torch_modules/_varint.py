"""Numbers as protobuf writes them, seven bits a byte: https://protobuf.dev/programming-guides/encoding/#varints."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return a number, the lowest bits first, in as few bytes as it takes; a negative one as 64 bits.

    Example:
        >>> varint(150).hex(), varint(-1).hex()
        ('9601', 'ffffffffffffffffff01')
    """
    value &= (1 << 64) - 1
    if value < 0x80:
        return _SMALL[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_SMALL = [bytes([value]) for value in range(0x80)]
