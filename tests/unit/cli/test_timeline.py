"""Bars of half cells."""

from __future__ import annotations

import pytest

from otel_torch_modules.cli.timeline import timeline_bar


@pytest.mark.parametrize(
    ("start", "end", "bar"),
    [
        (0, 10, "█████"),
        (0, 5, "██▌"),
        (5, 10, "  ▐██"),
        (2, 5, " █▌"),
        (3, 4, " ▐"),
        (0, 0, "▏"),
        (3, 3, " ▕"),
        (10, 10, "    ▕"),
        (-4, 30, "█████"),
        (12, 14, "    ▕"),
    ],
)
def test_bar_stands_where_the_time_was(start: int, end: int, bar: str) -> None:
    assert timeline_bar(start, end, (0, 10), 5) == bar


def test_a_whole_without_length_is_one_stroke() -> None:
    assert timeline_bar(7, 7, (7, 7), 5) == "▏"
