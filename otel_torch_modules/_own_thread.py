"""Threads of ours: what a signal handler of the program's raises is not lost where they start, nor where they go."""

from __future__ import annotations

import threading
from collections import deque
from sys import getrefcount
from typing import Final

from otel_torch_modules._interruption import is_interruption, suppressed

_kept: deque[threading.Thread] = deque()

_REFERENCES: Final = 2  # to a thread that nobody else knows: of `run`, and of the call that counts


class OwnThread(threading.Thread):
    """A thread that starts in a thread of the program's.

    Python tells by a callback in Python that a thread's object is gone, and discards what is raised there. So the
    object is kept until another thread of ours lets go of it: handlers run in the main thread alone.
    """

    def start(self) -> None:
        """Start it, and raise what a handler raises that strikes meanwhile.

        Python (3.11) takes that for a failure to start, and its clean-up raises in the place of it where there is
        nothing to clean up: the thread runs.
        """
        _kept.append(self)
        try:
            super().start()
        except KeyError as error:
            _raise_what_struck(error)
            raise

    def join(self, timeout: float | None = None) -> None:
        """Wait for it, and raise what a handler raises that strikes meanwhile: Python (3.11) releases a lock then."""
        try:
            super().join(timeout)
        except (RuntimeError, AssertionError) as error:  # which somebody else has released since
            _raise_what_struck(error)
            raise

    def run(self) -> None:
        """Do what it is for."""
        for _ in range(len(_kept)):
            with suppressed(IndexError):  # another one was as fast
                thread = _kept.popleft()
                if getrefcount(thread) > _REFERENCES:  # it runs, or is in a traceback
                    _kept.append(thread)
                del thread
        super().run()


def _raise_what_struck(error: BaseException) -> None:
    struck = error.__context__
    if struck is not None and is_interruption(struck):
        raise struck from None
