"""The way of every line of plain text to the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress

from otel_torch_modules._printable import printable


def say(line: str = "") -> None:
    """Print `line` at once, on standard output, whatever characters it holds."""
    print(printable(line), flush=True)


def say_error(line: str) -> None:
    """Print `line` on standard error, whatever characters it holds, if anything can be written there."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(printable(line), file=sys.stderr)
