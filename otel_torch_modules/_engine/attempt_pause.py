"""The pause between attempts at what is short, threads or what an exporter takes: it doubles, up to a minute."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

_FIRST_S: Final = 0.5
_LONGEST_S: Final = 60.0


class AttemptPause:
    """Known to last until the next attempt is due.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.end()

    def end(self) -> None:
        """Let an attempt have succeeded: there is none."""
        self._next_s = _FIRST_S
        self.cut_short()

    def cut_short(self) -> None:
        """Let the next attempt be due: somebody waits."""
        self._due = float("-inf")

    def begin(self) -> None:
        """Let an attempt have failed."""
        self._due = self._clock() + self._next_s
        self._next_s = min(2 * self._next_s, _LONGEST_S)

    @property
    def lasts(self) -> bool:
        """Whether the next attempt is not due yet."""
        return self._clock() < self._due
