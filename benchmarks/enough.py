"""When enough has been measured: as soon as figures are known well enough, at the latest when their time is over.

How often a comparison has to be repeated depends on what else the machine does. So rounds go on until the intervals of
its figures are narrow, whatever the figures are: what is asked of them is not looked at. Each look is an occasion to
stop by chance, where an interval happens to be too narrow; so looks are few, and there are none before some rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.figures import Figure

_LEAST = 8  # rounds, if there is time for them
_FEWEST = 2  # rounds, if there is not
_MORE_UNTIL_NEXT_LOOK = 1.25  # times


@dataclass(frozen=True)
class Enough:
    """How well figures are to be known, and for how long to try.

    Args:
        within: the share of a figure by which its interval may reach to either side of it.
        longer: how many times as long as in a quick run that may take.
    """

    within: float
    longer: float

    def rounds(
        self, seconds: float, figures: Callable[[], Iterable[Figure]], finer: float = 1
    ) -> Iterator[int]:
        """Yield the number of each round, from 0, until there have been enough.

        Args:
            seconds: after which no other round begins, in a quick run.
            figures: what is found of the rounds that there have been.
            finer: how many times better these figures have to be known than others.
        """
        end = time.monotonic() + seconds * self.longer
        done, look = 0, float(_LEAST)
        while True:
            yield done
            done += 1
            if done >= _FEWEST and time.monotonic() >= end:
                return
            if done >= look:
                if all(figure.is_within(self.within / finer) for figure in figures()):
                    return
                look = done * _MORE_UNTIL_NEXT_LOOK


QUICK = Enough(within=0.1, longer=1)
FULL = Enough(within=0.03, longer=4)
