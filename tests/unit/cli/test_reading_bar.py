"""The bar for long sources: on a terminal, after a second, and gone when the source is read."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from otel_torch_modules.cli.reading_bar import ReadingBar
from tests.support.hand_set_clock import HandSetClock


@pytest.mark.parametrize("size", [1000, None], ids=["a file", "a pipe"])
@pytest.mark.parametrize(
    ("terminal", "seconds", "shown"), [(True, 5.0, True), (True, 0.1, False), (False, 5.0, False)]
)
def test_it_appears_on_a_terminal_where_reading_takes_long(
    terminal: bool, seconds: float, shown: bool, size: int | None
) -> None:
    clock, written = HandSetClock(), io.StringIO()
    bar = ReadingBar(Console(file=written, force_terminal=terminal, width=80), clock)
    for name in ("night.jsonl", "day.jsonl"):
        written.seek(0)
        written.truncate()
        bar.begin(name, size)
        bar.advance(400)
        clock.now += seconds
        bar.advance(200)
        bar.advance(100)
        bar.end()
        assert (f"reading {name}" in written.getvalue()) is shown
        if not terminal:
            assert written.getvalue() == ""
