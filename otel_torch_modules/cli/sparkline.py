"""Numbers as a line of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw `values` in at most `width` cells; a cell that stands for several shows the largest.

    The lowest block is 0 to an eighth of the largest value.

    Example:
        >>> sparkline([1, 1, 4, 1, 8], 5), sparkline([1, 8, 1, 1], 2)
        ('▂▂▅▂█', '█▂')
    """
    cells = min(width, len(values))
    largest = max(values, default=0) or 1
    edges = [cell * len(values) // cells for cell in range(cells + 1)] if cells else []
    tallest = (max(values[a:b]) for a, b in pairwise(edges))
    return "".join(_BLOCKS[min(int(8 * value / largest), 7)] for value in tallest)
