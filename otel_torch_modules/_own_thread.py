"""Threads of ours: what a signal handler of the program's raises is not lost where they start, nor where they go.

They take none of the program's signals. One that the program blocks, to wait for it, would end the process in a thread
that does not block it. And what a write of ours to a pipe that nobody reads (SIGPIPE), or beyond the length that files
may have (SIGXFSZ), would do to the process is not the program's doing: the write fails, and that is all.

Only the latter is true of a thread that calls what is the program's: its handlers of log lines may send signals too.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from sys import getrefcount
from typing import Final

from otel_torch_modules._greenlets import GreenThreadsError, threads_are_green
from otel_torch_modules._interruption import suppressed, this_thread_is_ours, uncovered

_kept: deque[threading.Thread] = deque()

_REFERENCES: Final = 2  # to a thread that nobody else knows: of `run`, and of the call that counts

# What a thread does to itself, and ends the process blocked or not: `faulthandler` may be there to tell of it.
_FAULTS: Final = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
_OF_A_WRITE: Final = ("SIGPIPE", "SIGXFSZ")


def _named(names: tuple[str, ...]) -> set[int]:
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


class OwnThread(threading.Thread):
    """A thread that starts in a thread of the program's.

    Python tells by a callback in Python that a thread's object is gone, and discards what is raised there. So the
    object is kept until another thread of ours lets go of it: handlers run in the main thread alone.
    """

    _blocks = {int(number) for number in signal.valid_signals()} - _named(_FAULTS)

    def start(self) -> None:
        """Start it, and raise what a handler raises that strikes meanwhile; the thread may run.

        Raises:
            GreenThreadsError: it would be no thread.
            RuntimeError: none can be started.
        """
        green = threads_are_green()
        if green:
            raise GreenThreadsError(green)
        _kept.append(self)
        with uncovered():
            super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for it, and raise what a handler raises that strikes meanwhile."""
        with uncovered():
            super().join(timeout)

    def run(self) -> None:
        """Do what it is for."""
        this_thread_is_ours()
        if hasattr(signal, "pthread_sigmask"):  # what this one starts, in C too, does as it does
            signal.pthread_sigmask(signal.SIG_BLOCK, self._blocks)
        for _ in range(len(_kept)):
            with suppressed(IndexError):  # another one was as fast
                thread = _kept.popleft()
                if getrefcount(thread) > _REFERENCES:  # it runs, or is in a traceback
                    _kept.append(thread)
                del thread
        super().run()


class StandIn(OwnThread):
    """Stands in for the thread that starts it: it takes the signals that that one takes, but for those of a write."""

    _blocks = _named(_OF_A_WRITE)
