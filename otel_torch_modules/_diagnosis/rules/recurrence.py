"""At what distance steps come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

LEAST_TIMES = 4  # a period is what came back as often
FITTING = 0.7  # of the steps are at the period, and of its steps are among them


class Recurrence(NamedTuple):
    """Every so many steps, those whose number leaves this rest."""

    every: int
    rest: int

    def has(self, number: int) -> bool:
        """Return whether the step of that number is one of them."""
        return number % self.every == self.rest


def recurrence(steps: Sequence[int], known: Sequence[int]) -> Recurrence | None:
    """Return the period that some steps are at, by their numbers among those of all; None where they are at none."""
    if len(steps) < LEAST_TIMES:
        return None
    all_steps = set(known)
    distances = Counter(after - before for before, after in pairwise(steps))
    for every, _ in distances.most_common(3):
        if every < 2:
            continue
        rest, times = Counter(step % every for step in steps).most_common(1)[0]
        at_period = sum(step % every == rest for step in all_steps)
        if (
            times >= max(LEAST_TIMES, FITTING * len(steps), FITTING * at_period)
            and at_period < len(all_steps) / 2 + 1
        ):
            return Recurrence(every, rest)
    return None
