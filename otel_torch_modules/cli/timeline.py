"""A stretch of time as a bar of half cells."""

from __future__ import annotations

_CELLS = {(True, True): "█", (True, False): "▌", (False, True): "▐", (False, False): " "}


def timeline_bar(start: int, end: int, of: tuple[int, int], width: int) -> str:
    """Draw [start, end) on a line of `width` cells that stands for the stretch `of`.

    What is shorter than half a cell is a thin stroke, so that nothing goes unseen. No trailing blanks.

    Example:
        >>> timeline_bar(2, 5, (0, 10), 5)
        ' █▌'
    """
    begin, whole = of[0], max(of[1] - of[0], 1)
    halves = 2 * width
    first = _within(round((start - begin) * halves / whole), halves)
    last = _within(round((end - begin) * halves / whole), halves)
    if first == last:
        cell, right = divmod(min(first, halves - 1), 2)
        return " " * cell + ("▕" if right else "▏")
    cells = range((last + 1) // 2)
    return "".join(_CELLS[first <= 2 * cell < last, first <= 2 * cell + 1 < last] for cell in cells)


def _within(halves: int, most: int) -> int:
    return min(max(halves, 0), most)
