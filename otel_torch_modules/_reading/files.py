"""Reads the requests of a file: JSON, one a line, or messages with their length before them.

Both are what the collector's file exporter writes; the latter for ``format: proto``, and for JSON that is packed
message by message
(https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.content import (
    DAMAGED,
    ReadAlreadyError,
    open_content,
    size_of,
    unpacked,
)
from otel_torch_modules._reading.damage import Damage, MissingSpan
from otel_torch_modules._reading.json_lines import JsonReader
from otel_torch_modules._reading.progress import ReadingProgress
from otel_torch_modules._reading.source_error import SourceError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LENGTH = 4  # bytes, the highest first
_MOST_BYTES = 1 << 30  # of a message: what claims to be longer is none
# A length of less than 128 MB begins so; no text does.
_FIRST_BYTES_OF_LENGTHS = range(8)


def read_file(source: str, arrivals: Arrivals, progress: ReadingProgress) -> Damage:
    """Read the spans of a file, or of standard input for ``-``, and return what of it is no span.

    Raises:
        SourceError: it cannot be read, or there is no span in it at all.
    """
    damage = Damage(printable("standard input" if source == "-" else source))
    before = arrivals.count
    try:
        progress.begin(damage.source, size_of(source))
        with open_content(source, progress.advance) as content:
            _read(content, arrivals, damage)
    except OSError as error:
        raise SourceError(f"{damage.source} cannot be read: {error.strerror}") from error
    except ReadAlreadyError as error:
        raise SourceError(
            f"{damage.source} has been read already: - can be one source only"
        ) from error
    finally:
        progress.end()
    if arrivals.count == before:
        raise SourceError(_why_there_is_nothing(damage))
    return damage


def _why_there_is_nothing(damage: Damage) -> str:
    if damage.requests:
        return (
            f"{damage.source}: {damage.unit} {damage.requests[0]} is not an {damage.encoding} trace "
            "request"
        )
    if damage.spans:
        return f"{damage.source} holds no span that can be read, {damage.spans} malformed"
    if damage.ended:
        return f"{damage.source} cannot be read: {damage.ended}"
    if damage.other_signals:
        return f"{damage.source} holds {' and '.join(sorted(damage.other_signals))}, but no trace"
    return f"{damage.source} is empty: no trace has been written to it yet"


def _read(content: IO[bytes], arrivals: Arrivals, damage: Damage) -> None:
    try:
        first = content.read(1)
        if first and first[0] in _FIRST_BYTES_OF_LENGTHS:
            _read_messages(first, content, arrivals, damage)
        elif first:
            _read_lines(first + content.readline(), content, arrivals, damage)
    except DAMAGED:
        damage.ended = "what it was packed in is damaged or cut off"
        _mark_last(arrivals, damage)


def _read_lines(first: bytes, content: IO[bytes], arrivals: Arrivals, damage: Damage) -> None:
    read = JsonReader(arrivals, damage).read
    line = first.removeprefix(_BYTE_ORDER_MARK)
    number = 1
    while line:
        if not line.isspace():
            read(number, line)
        if damage.requests[-1:] == [number]:
            damage.cut_off = not line.endswith(b"\n")
        number += 1
        line = content.readline()


def _read_messages(first: bytes, content: IO[bytes], arrivals: Arrivals, damage: Damage) -> None:
    damage.unit, damage.encoding = "message", "OTLP"
    read: Callable[[int, bytes], None] | None = None
    number = 0
    head = first + content.read(_LENGTH - 1)
    while head:
        number += 1
        length = int.from_bytes(head, "big")
        message = content.read(min(length, _MOST_BYTES))
        if len(head) < _LENGTH or len(message) < length:
            damage.requests.append(number)
            damage.cut_off = True
            _mark_last(arrivals, damage)
            return
        message = unpacked(message)
        if read is None:
            read = _reader_of(message, arrivals, damage)
        read(number, message)
        head = content.read(_LENGTH)


def _reader_of(message: bytes, arrivals: Arrivals, damage: Damage) -> Callable[[int, bytes], None]:
    if message.startswith(b"{"):
        return JsonReader(arrivals, damage).read
    # Needs OpenTelemetry's classes of messages: `doctor` must work where these are broken.
    from otel_torch_modules._reading.protobuf import ProtobufReader

    return ProtobufReader(arrivals, damage).read


def _mark_last(arrivals: Arrivals, damage: Damage) -> None:
    """Note that something is missing after what came last."""
    if arrivals.last is not None:
        damage.places.append(MissingSpan(*arrivals.last))
