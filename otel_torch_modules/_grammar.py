"""Singular and plural."""

from __future__ import annotations


def agree(count: int, one: str, many: str) -> str:
    """Return the words that go with `count`.

    Example:
        >>> agree(2, "this file holds", "these files hold")
        'these files hold'
    """
    return one if count == 1 else many


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `count` and the words that go with it; `many` is `one` with an s where it is not given.

    Example:
        >>> counted(2, "step was", "steps were"), counted(1, "rank"), counted(0, "rank")
        ('2 steps were', '1 rank', '0 ranks')
    """
    return f"{count} {agree(count, one, many or one + 's')}"
