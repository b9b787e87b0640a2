"""Where no thread of ours can be started: steps wait for one. It is tried again, less and less often, and said once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from types import TracebackType
from typing import Final

from otel_torch_modules._engine.attempt_pause import AttemptPause
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report, warn

_LOGGER = logging.getLogger(__name__)


class ThreadShortage(AbstractContextManager[None]):
    """Takes note whether a thread that is started inside is; suppresses that there is none for it.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._pause = AttemptPause(clock)
        self._is_known = False

    def lasts(self) -> bool:
        """Return whether none could be started a moment ago."""
        return self._pause.lasts

    def hurry(self) -> None:
        """Let it be tried at once: somebody waits."""
        self._pause.cut_short()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            if self._is_known:
                self._is_known = False
                self._pause.end()
                warn(_LOGGER, "Threads can be started: steps are sent from now on")
            return False
        if type(error) is not RuntimeError or is_interruption(error):
            return False
        if not self._is_known:
            self._is_known = True
            message = (
                "No thread can be started: steps wait for one, as many as there is room for: %s"
            )
            report(_LOGGER, message, error)
        self._pause.begin()
        return True


shortage: Final = ThreadShortage()
"""There is one in a process."""
