"""The way of every line of plain text to the terminal."""

from __future__ import annotations

import sys

from otel_torch_modules._printable import printable


def say(line: str = "") -> None:
    """Print `line` at once, on standard output, whatever characters it holds."""
    print(printable(line), flush=True)


def say_error(line: str) -> None:
    """Print `line` on standard error, whatever characters it holds."""
    print(printable(line), file=sys.stderr)
