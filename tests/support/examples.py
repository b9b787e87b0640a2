"""How many inputs are generated where a test says so itself: the profile that looks at length has more of those too."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100  # what hypothesis generates where nothing is said


def examples(count: int) -> int:
    """Return `count`, or as many times that as the profile in use has more than the usual."""
    return count * settings.default.max_examples // _USUAL
