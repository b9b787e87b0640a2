"""When enough has been measured: as soon as figures are known well enough, at the latest when no time is left.

How often a comparison has to be repeated depends on what else the machine does. So rounds go on until the intervals of
its rows are narrow, whatever the figures are: on which side of what is asked they lie is not looked at. Each look is an
occasion to stop by chance, where an interval happens to be too narrow; so looks are few, and there are none before
some rounds. Where the time is over first, who gave it is asked for more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from benchmarks.figures import Row

Found = TypeVar("Found")

_LEAST = 8  # rounds, before they may be found enough
_FEWEST = 5  # rounds, however long they take: between the least and the most of five lies the median in 94 of 100
_MORE_UNTIL_NEXT_LOOK = 1.25  # times


class Vague(NamedTuple):
    """How many times as wide as it may be the widest interval of some rows is."""

    figures: float
    """As shares of figures."""
    added: float
    """Of what they add, where that counts: never less. Where there are few rounds, that at least."""


def _no_more(vague: Vague) -> float:
    return 0


@dataclass(frozen=True)
class Enough:
    """How well figures are to be known, and for how long to try.

    Args:
        within: what `Row.reach_of_added` may be at most.
        seconds: for which rounds go on at first.
        more: returns for how many seconds they may go on when these are over; 0: not at all. Is told how
            vague the rows are.
        thorough: whether there is time for what is only said in a note, and for the largest models.
    """

    within: float
    seconds: float
    more: Callable[[Vague], float] = _no_more
    thorough: bool = True

    def rounds(self, rows: Callable[[], Iterable[Row]]) -> Iterator[int]:
        """Yield the number of each round, from 0, until there have been enough.

        Args:
            rows: what is found of the rounds that there have been.
        """
        end = time.monotonic() + self.seconds
        done, look = 0, float(_LEAST)
        while True:
            yield done
            done += 1
            over = done >= _FEWEST and time.monotonic() >= end
            if not over and done < look:
                continue
            look = done * _MORE_UNTIL_NEXT_LOOK
            vague = self._vague(list(rows()), done)
            if vague.added <= 1:
                return
            if over:
                seconds = self.more(vague)
                if not seconds:
                    return
                end = time.monotonic() + seconds

    def _vague(self, rows: Sequence[Row], done: int) -> Vague:
        figures, added = (
            max(reaches) / self.within
            for reaches in zip(*((row.reach, row.reach_of_added) for row in rows), strict=True)
        )
        return Vague(figures, max(added, 1) * _LEAST / done if done < _LEAST else added)

    def until_known(
        self, rows: Callable[[Found], Iterable[Row]]
    ) -> Callable[[Found], Iterator[int]]:
        """Return the rounds of a comparison: until what `rows` makes of what is found in them is known.

        Args:
            rows: given what is found so far, the rows of the table.
        """
        return lambda found: self.rounds(lambda: rows(found))


LONGER_THAN_A_TABLE_S = 7_200.0
"""A ``stall_timeout`` for what is traced from turn to turn: to stand still between them is no stall."""

QUICK = Enough(within=0.18, seconds=30, thorough=False)
FULL = Enough(within=0.03, seconds=120)
