"""Singular and plural, and lists that are not told to their end."""

from __future__ import annotations

from collections.abc import Sequence


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


def first_of(values: Sequence[object], most: int = 3) -> str:
    """Return the first of some values.

    Example:
        >>> first_of([26, 41, 67, 90]), first_of([26])
        ('26, 41, 67 …', '26')
    """
    return ", ".join(map(str, values[:most])) + (" …" if len(values) > most else "")
