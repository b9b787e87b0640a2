"""A file that a command writes: whole, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from otel_torch_modules._printable import printable
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error

_STANDARD_OUTPUT = Path("-")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written, which has its name once all is in it; what had the name before stays until then.

    What is no file, a pipe or ``-`` for standard output, is written to as it comes.

    Raises:
        CommandError: it cannot be written.
    """
    if path == _STANDARD_OUTPUT:
        yield sys.stdout.buffer
        return
    try:
        if _is_stream(path):
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
        raise CommandError(f"{printable(str(path))} cannot be written: {error.strerror}") from error


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file()  # a folder too: opening it says that it is one


def teller(path: Path) -> Callable[[str], None]:
    """Return what prints a line where it is not in the output's way."""
    return say_error if path == _STANDARD_OUTPUT or _is_stream(path) else say


def size(path: Path) -> str:
    """Return how large a file is, as it is said.

    Example:
        >>> size(Path("/dev/null"))
        '0 bytes'
    """
    value, unit = float(path.stat().st_size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 9.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"
