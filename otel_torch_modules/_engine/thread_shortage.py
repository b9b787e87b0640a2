"""Where no thread of ours can be started: steps wait for one. It is tried again, less and less often, and said once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from types import TracebackType
from typing import Final

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report, warn

_LOGGER = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0


class ThreadShortage(AbstractContextManager[None]):
    """Takes note whether a thread that is started inside is; suppresses that there is none for it.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._pause_s = 0.0  # while there is none
        self._due = 0.0

    def lasts(self) -> bool:
        """Return whether none could be started a moment ago."""
        return bool(self._pause_s) and self._clock() < self._due

    def hurry(self) -> None:
        """Let it be tried at once: somebody waits."""
        self._due = 0.0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            if self._pause_s:
                self._pause_s = 0.0
                warn(_LOGGER, "Threads can be started: steps are sent from now on")
            return False
        if type(error) is not RuntimeError or is_interruption(error):
            return False
        if not self._pause_s:
            message = (
                "No thread can be started: steps wait for one, as many as there is room for: %s"
            )
            report(_LOGGER, message, error)
        self._pause_s = min(2 * self._pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._due = self._clock() + self._pause_s
        return True


shortage: Final = ThreadShortage()
"""There is one in a process."""
