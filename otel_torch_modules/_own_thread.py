"""Threads of ours: what a signal handler of the program's raises is not lost where they start, nor where they go.

They take none of the program's signals. One that the program blocks, to wait for it, would end the process in a thread
that does not block it. And what a write of ours to a pipe that nobody reads (SIGPIPE), or beyond the length that files
may have (SIGXFSZ), would do to the process is not the program's doing: the write fails, and that is all.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from sys import getrefcount
from typing import Final

from otel_torch_modules._interruption import suppressed, uncovered

_kept: deque[threading.Thread] = deque()

_REFERENCES: Final = 2  # to a thread that nobody else knows: of `run`, and of the call that counts

# What a thread does to itself, and ends the process blocked or not: `faulthandler` may be there to tell of it.
_FAULTS: Final = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}


class OwnThread(threading.Thread):
    """A thread that starts in a thread of the program's.

    Python tells by a callback in Python that a thread's object is gone, and discards what is raised there. So the
    object is kept until another thread of ours lets go of it: handlers run in the main thread alone.
    """

    def start(self) -> None:
        """Start it, and raise what a handler raises that strikes meanwhile; the thread may run."""
        _kept.append(self)
        with uncovered():
            super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for it, and raise what a handler raises that strikes meanwhile."""
        with uncovered():
            super().join(timeout)

    def run(self) -> None:
        """Do what it is for."""
        _block_signals()
        for _ in range(len(_kept)):
            with suppressed(IndexError):  # another one was as fast
                thread = _kept.popleft()
                if getrefcount(thread) > _REFERENCES:  # it runs, or is in a traceback
                    _kept.append(thread)
                del thread
        super().run()


def _block_signals() -> None:
    """Leave signals to the program's threads; those that this one starts, in C too, do as it does."""
    if hasattr(signal, "pthread_sigmask"):
        faults = {getattr(signal, name, None) for name in _FAULTS}
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
