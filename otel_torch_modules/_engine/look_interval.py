"""How often the worker looks at a folder that the user has named."""

from __future__ import annotations

_INTERVAL_S = 1.0
_MOST_OF_THE_TIME = 0.05  # that the worker spends with the folder


def look_interval(taken: float = 0.0) -> float:
    """Return how long after a look the next one is due, in seconds; `taken` is what the last one took."""
    return max(_INTERVAL_S, taken / _MOST_OF_THE_TIME)
