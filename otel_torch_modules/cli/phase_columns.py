"""The columns of a table that has one for each phase: on a narrow terminal those of the largest."""

from __future__ import annotations

from collections.abc import Mapping

_PERCENT = 6  # cells of a share
_APART = 2


def cells(phase: str) -> int:
    """Return how wide a phase's column is."""
    return max(len(phase), _PERCENT) + _APART


def fitting(times: Mapping[str, float], room: int) -> list[str]:
    """Return the phases whose columns fit, in the order in which they are given.

    Args:
        times: how much of the steps each phase takes.
        room: cells.

    Example:
        >>> fitting({"data": 0.1, "forward": 0.3, "backward": 0.6}, 20)
        ['forward', 'backward']
    """
    chosen = set()
    for phase in sorted(times, key=lambda phase: -times[phase]):
        room -= cells(phase)
        if room < 0:
            break
        chosen.add(phase)
    return [phase for phase in times if phase in chosen]
