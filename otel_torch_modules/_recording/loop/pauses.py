"""Whose the time is that lies between two steps, or between a step and an evaluation: that of a pause is nobody's."""

from __future__ import annotations

PAUSE = 500_000_000
"""A loop that does nothing that is seen for longer (ns), and than two of its iterations take, has paused."""


class Pauses:
    """Knows how the loop comes from one step to what follows."""

    def __init__(self) -> None:
        self.straight_on = False
        """There was no forward since an optimizer's step ended."""
        self._ended_before = 0  # the step before the last

    def before_step(self, start: int, end: int, evaluation_end: int, *, first: bool) -> int:
        """Return when what came before a step ended; `start` where the loop paused.

        Args:
            start: when the step's first root is called (ns).
            end: of the step before it.
            evaluation_end: of the evaluation before it, 0 where there is none.
            first: there is no step before it.
        """
        iteration, self._ended_before = end - self._ended_before, end
        straight, self.straight_on = self.straight_on, False
        ended = end if straight else evaluation_end or start
        went_on = not first and 0 <= start - ended <= max(PAUSE, 2 * iteration)
        return ended if went_on else start

    def before_evaluation(self, start: int, end: int) -> int:
        """Return when the step before an evaluation ended; `start`, when its first root is called, where the loop
        paused, or another evaluation is between. What follows does not go straight on.
        """
        straight, self.straight_on = self.straight_on, False
        return end if straight and 0 <= start - end <= PAUSE else start
