"""How long steps take, told by when they began."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median

_INTERVALS = 9


class Pace:
    """Looks at the number of the step that has begun last, now and then.

    What stands between two looks that are far apart, an evaluation or a checkpoint, is told from the usual by being
    rare: it is the median that counts.
    """

    def __init__(self) -> None:
        self._begun: deque[tuple[int, int]] = deque(maxlen=_INTERVALS + 1)

    def note(self, step: int, began: int) -> None:
        """Take note of the last step that has begun.

        Args:
            step: its number.
            began: when, in ns.
        """
        if self._begun:
            last, last_began = self._begun[-1]
            if step == last:
                return
            if step < last or began < last_began:  # a program that counts anew
                self._begun.clear()
        self._begun.append((step, began))

    @property
    def seconds_per_step(self) -> float | None:
        """The usual time; None before the second step."""
        taken = [
            (end - start) / (last - first) / 1e9
            for (first, start), (last, end) in pairwise(self._begun)
        ]
        return median(taken) if taken else None
