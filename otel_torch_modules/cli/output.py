"""A file that a command writes: whole, or not at all, and never in the place of what it is made from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO

from otel_torch_modules._printable import printable
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error

_STANDARD_OUTPUT = Path("-")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Output:
    """Where a command writes to, known before it reads: a standard input is closed once it has been read.

    Args:
        path: of the file, or ``-`` for standard output.
        sources: what will be read for it, as on the command line.

    Raises:
        CommandError: it is one of the sources.
    """

    def __init__(self, path: Path, sources: Sequence[str]) -> None:
        self._path = path
        self.name = printable(str(path))
        if _is_one_of(sources, path):
            raise CommandError(
                f"{self.name} cannot be written: it is what is read, and would be lost; -o must name another file"
            )

    @contextmanager
    def written(self) -> Iterator[IO[bytes]]:
        """Open it to be written. A file has its name once all is in it; what had the name before stays until then.

        What is no file, a pipe or standard output, is written to as it comes.

        Raises:
            CommandError: it cannot be written.
        """
        path = self._path
        if path == _STANDARD_OUTPUT:
            if sys.stdout is None:  # closed before the program began
                raise CommandError(f"{self.name} cannot be written: it is closed")
            yield sys.stdout.buffer
            return
        try:
            if self._is_stream:
                with path.open("wb") as out:
                    yield out
                return
            place = path.resolve()
            if place.exists():
                place.open("ab").close()  # whether it may be written
            part = place.with_name(f".{place.name}.{os.getpid()}.part")
            try:
                with part.open("wb") as out:
                    yield out
                part.replace(place)
            except BaseException:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CommandError(f"{self.name} cannot be written: {error.strerror}") from error

    @property
    def _is_stream(self) -> bool:
        # A folder too: opening it says that it is one.
        return self._path.exists() and not self._path.is_file()

    def tell(self, line: str) -> None:
        """Print a line where it is not in the output's way."""
        in_the_way = self._path == _STANDARD_OUTPUT or self._is_stream
        (say_error if in_the_way else say)(line)

    def tell_written(self, what: str, reader: str) -> None:
        """Print what has been written, how large a file it is, and who reads it."""
        how_large = f", {_said(self._path.stat().st_size)}" if self._path.is_file() else ""
        self.tell(f"{self.name}: {what}{how_large}. Open it with {reader}.")


def _said(count: float) -> str:
    """Return a number of bytes as it is said.

    Example:
        >>> _said(61_234)
        '61 kB'
    """
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 1 if unit and count < 9.95 else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def _is_one_of(sources: Sequence[str], path: Path) -> bool:
    output = _status(str(path), sys.stdout)
    if output is None or not S_ISREG(output.st_mode):  # a terminal may be read and written
        return False
    statuses = (_status(source, sys.stdin) for source in sources)
    return any(status is not None and os.path.samestat(status, output) for status in statuses)


def _status(path: str, standard: IO[str] | None) -> os.stat_result | None:
    """Return what the system says of a file, whatever name it goes by, and for ``-`` of a standard stream's."""
    with suppress(OSError, ValueError):  # there is none: what is read may be a backend
        if path != str(_STANDARD_OUTPUT):
            return os.stat(path)
        return None if standard is None else os.fstat(standard.fileno())
    return None
