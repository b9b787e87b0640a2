"""Which steps are sent with all their modules, by what they turned out to be."""

from __future__ import annotations

from dataclasses import dataclass

from otel_torch_modules._allowed import is_finite, is_whole, refuse, shown


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which records are sent with all their modules; those that fail always are.

    Args:
        slow: how many times what is usual one has to take; None for none.
        every: one in so many; 0 for none.
        first: so many at the start.

    Example:
        >>> Keep(slow=1.3, every=100)
        Keep(slow=1.3, every=100, first=0)
    """

    slow: float | None = None
    every: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        if self.slow is not None and not (is_finite(self.slow) and self.slow > 1):
            refuse("keep", f"slow={shown(self.slow)}", "a number above 1")
        for name in ("every", "first"):
            value = getattr(self, name)
            if not is_whole(value, 0):
                refuse("keep", f"{name}={shown(value)}", "an integer of at least 0")
