"""Numbers as they stand in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def ms(value: float) -> str:
    """Return a time with three digits.

    Example:
        >>> ms(0.1234), ms(3.03), ms(12.11), ms(812.4), ms(48211.0)
        ('0.123 ms', '3.03 ms', '12.1 ms', '812 ms', '48.2 s')
    """
    if value >= 10_000:
        return f"{value / 1e3:.1f} s"
    return f"{digits(value)} ms"


def digits(value: float) -> str:
    """Return a number with three digits, as far as they stand behind the point."""
    decimals = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{decimals}f}"


def percent(share: float) -> str:
    """Return a share.

    Example:
        >>> percent(0.571), percent(0.031)
        ('57 %', '3.1 %')
    """
    return (
        f"{share:.0%}".replace("%", " %") if share >= 0.0995 else f"{share:.1%}".replace("%", " %")
    )


def extent(values: Sequence[int]) -> str:
    """Return from where to where some numbers go.

    Example:
        >>> extent([5, 3, 9]), extent([3, 3])
        ('from 3 to 9', 'all of number 3')
    """
    least, most = min(values), max(values)
    return (
        f"all of number {least}" if least == most and len(values) > 1 else f"from {least} to {most}"
    )


def ordinal(number: int) -> str:
    """Return the word for a place in an order.

    Example:
        >>> [ordinal(number) for number in (2, 3, 10, 11, 21, 112)]
        ['2nd', '3rd', '10th', '11th', '21st', '112th']
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"
