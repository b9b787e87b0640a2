"""How the time of a table is given to its comparisons: a turn to each, then turns to those that are still vague."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.enough import Vague

_FIRST_TURNS = 0.4  # of the time; what a comparison does before its first round comes on top
_WIDE = 3.0  # times as wide as it may be
_FOR_THE_LAST_ROUND = 0.03  # of the time: a turn ends with the round in which it is over


class TakesTurns(Protocol):
    """A comparison that stands still until it has a turn."""

    vague: Vague
    """How vague its rows are."""

    @property
    def is_over(self) -> bool:
        """Whether it needs no more."""

    def begin(self, seconds: float, at_most: float) -> None:
        """Measure for so long, or until enough is known; be over if that is not done `at_most` seconds from now."""

    def go_on(self, seconds: float) -> None:
        """Measure for so long again."""

    def end(self) -> None:
        """Be over, with what is known."""


def take_turns(
    comparisons: Sequence[TakesTurns],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[TakesTurns], object] = lambda comparison: None,
) -> None:
    """Measure until everything is known, at the latest until the time is over.

    Intervals narrow as the root of the time does. So it can be told how many more turns a comparison needs, and the
    next is for the one that needs the fewest: of what can be known in the time, as much is as can be. First until the
    figures are known, then until what they add is, which of a ratio close to one asks for more.

    Args:
        comparisons: what is measured, one at a time.
        seconds: for all of it.
        clock: seconds.
        tell: is told after each turn whose it was.
    """
    end = clock() + seconds * (1 - _FOR_THE_LAST_ROUND)
    turn = seconds * _FIRST_TURNS / len(comparisons)
    turns = {}
    for number, comparison in enumerate(comparisons):
        if (left := end - clock()) <= 0:
            break
        seconds = min(turn, _FIRST_TURNS * left / (len(comparisons) - number))
        comparison.begin(seconds, at_most=left)
        turns[comparison] = 1
        tell(comparison)
    while (left := end - clock()) > 0:
        waiting = [comparison for comparison in comparisons if not comparison.is_over]
        if not waiting:
            return
        soonest = min(waiting, key=lambda each: _needs(each.vague, turns[each]))
        soonest.go_on(min(turn, left))
        turns[soonest] += 1
        tell(soonest)
    for comparison in comparisons:
        if not comparison.is_over:
            comparison.end()


def _needs(vague: Vague, turns: int) -> tuple[bool, float]:
    """Return whether figures are known, and how many more turns it takes until they are, or else what they add.

    How wide a very wide interval is says little: with it alone one whose first turn was a bad one would have no other.
    """
    known = vague.figures <= 1
    wide = min(vague.added if known else vague.figures, _WIDE)
    return known, turns * (wide**2 - 1)
