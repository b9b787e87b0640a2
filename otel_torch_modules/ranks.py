"""Choosing ranks by number, range or step: ``all``, ``0``, ``0,8,16``, ``0-7``, ``*/8``."""

from __future__ import annotations

import re
from typing import NamedTuple

ALLOWED = "all, or ranks, ranges and steps joined by commas, as in 0,8,16-23,*/64"

_PART = re.compile(r"(?P<first>[0-9]+)(?:-(?P<last>[0-9]+))?|\*/(?P<step>[0-9]+)")


class _Part(NamedTuple):
    first: int
    last: int | None  # None: no end
    step: int

    def least_from(self, rank: int) -> int | None:
        """Return the lowest rank of this part that is not below `rank`."""
        least = self.first + max(0, -(-(rank - self.first) // self.step)) * self.step
        return None if self.last is not None and least > self.last else least


class Ranks:
    """A choice of ranks, whatever the size of the job.

    Args:
        text: ``all``, or ranks (``0``), ranges (``0-7``) and steps (``*/8``: 0, 8, 16 and so on) joined by commas.

    Raises:
        ValueError: `text` is none of these.

    Example:
        >>> [rank for rank in range(12) if rank in Ranks("1,*/4")]
        [0, 1, 4, 8]
    """

    def __init__(self, text: str) -> None:
        items = ["*/1"] if text.strip().lower() == "all" else text.split(",")
        self._parts = [_parse(item.strip()) for item in items]

    def __contains__(self, rank: int) -> bool:
        return any(part.least_from(rank) == rank for part in self._parts)

    def lowest(self, world_size: int) -> int | None:
        """Return the lowest chosen rank of a job of `world_size` ranks; None where it has none of them.

        Example:
            >>> Ranks("8-15").lowest(64)
            8
        """
        chosen = [part.least_from(0) for part in self._parts]
        return min(
            (rank for rank in chosen if rank is not None and rank < world_size), default=None
        )


def _parse(item: str) -> _Part:
    match = _PART.fullmatch(item)
    if match is None:
        raise ValueError(f"{item!r} is not allowed; it must be {ALLOWED}")
    if match["step"] is not None:
        part = _Part(0, None, int(match["step"]))
    else:
        part = _Part(int(match["first"]), int(match["last"] or match["first"]), 1)
    if part.step < 1 or (part.last is not None and part.last < part.first):
        raise ValueError(f"{item!r} is not allowed; it must be {ALLOWED}")
    return part
