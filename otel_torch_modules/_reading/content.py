"""The bytes of a file or a pipe, whatever they were packed in, told by their first bytes."""

from __future__ import annotations

import errno
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"

# What a packed file that was torn or overwritten is answered with, in its middle.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)

_STANDARD_INPUT = "-"


class ReadAlreadyError(Exception):
    """Standard input can be read once."""


def open_content(source: str, advance: Callable[[int], None]) -> IO[bytes]:
    """Open a file, or standard input for ``-``, and return what it holds, unpacked.

    Args:
        source: its name.
        advance: is told how many bytes more have been read, as they are in the file.

    Raises:
        OSError: it cannot be opened.
        ReadAlreadyError: standard input has been read, for another source.
    """
    if source == _STANDARD_INPUT:
        if sys.stdin is None:  # closed before the program began
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream: IO[bytes] = sys.stdin.buffer
        if stream.closed:
            raise ReadAlreadyError
    else:
        stream = Path(source).open("rb")  # noqa: SIM115, whoever reads closes it
    return _unpacked(stream, advance)


def size_of(source: str) -> int | None:
    """Return how many bytes a file has; None where that is not known before its end."""
    path = Path(source)
    return path.stat().st_size if source != _STANDARD_INPUT and path.is_file() else None


def unpacked(message: bytes) -> bytes:
    """Return a message as it was before it was packed.

    Raises:
        Exception: one of `DAMAGED`.
    """
    return _unpacked(io.BytesIO(message)).read() if message[:4] == ZSTD else message


def _unpacked(stream: IO[bytes], advance: Callable[[int], None] = lambda count: None) -> IO[bytes]:
    content = _Rejoined(stream.read(len(ZSTD)), stream, advance)
    if content.head.startswith(GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=io.BufferedReader(content)))
    if content.head == ZSTD:
        return cast("IO[bytes]", zstd.ZstdFile(io.BufferedReader(content)))
    return io.BufferedReader(content, 1 << 20)


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes have been looked at."""

    def __init__(self, head: bytes, stream: IO[bytes], advance: Callable[[int], None]) -> None:
        self._advance = advance
        self.head = head
        self._waiting = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._waiting:
            content, self._waiting = self._waiting[: len(buffer)], self._waiting[len(buffer) :]
        else:
            content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._advance(len(content))
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()
