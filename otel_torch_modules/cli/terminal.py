"""The console that pictures are drawn on."""

from __future__ import annotations

from rich.console import Console

_WIDTHS = range(40, 401)  # cells: what a picture needs, and what a line can be read to


def terminal() -> Console:
    """Return a console on standard output, as wide as the terminal is, within reason."""
    width = Console().width
    return Console(highlight=False, width=min(max(width, _WIDTHS[0]), _WIDTHS[-1]))
