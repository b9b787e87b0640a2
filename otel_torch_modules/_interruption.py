"""Tells an exception that strikes our code from outside from an error of ours.

A signal handler runs between any two lines, so also between two of ours: what it raises is the program's and has to
reach it. So has what a debugger's trace function raises, and what another thread sets in this one. Whatever of ours
takes an exception, of whatever type, asks :func:`is_interruption`.

In a thread of ours no handler runs, and above it is nobody whom anything has to reach: what the program's own code
raises there, which its log, its span processors or its exporters are, is an error of what was called, be it an exit.

Python itself discards what is raised in destructors, in callbacks of weak references and of the collector, and in
what is called before a fork: nothing of ours that runs there is written in Python.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

_PACKAGE: Final = __name__.partition(".")[0]

# Where the types of exceptions come from that our code can get from what it calls.
_CALLED: Final = (
    _PACKAGE,
    "torch",
    "opentelemetry",
    "google",
    "grpc",
    "msgspec",
    "requests",
    "urllib3",
)
_OWN: Final = frozenset({*_CALLED, *sys.stdlib_module_names})


class _Here(threading.local):
    is_ours = False


_here: Final = _Here()


def this_thread_is_ours() -> None:
    """Take note that nothing interrupts this thread from now on."""
    _here.is_ours = True


def is_interruption(error: BaseException) -> bool:
    """Return whether `error`, caught in code of ours, was raised by what interrupted it, and not by what it called."""
    if _here.is_ours:
        return False
    if not isinstance(error, Exception):
        return True
    interrupted = None
    handlers = None
    for frame in _frames(error.__traceback__):
        if interrupted is not None:
            # Handlers and trace functions are given the frame that they interrupt, and nobody else is; where it calls
            # a function of Python's these are given that one's, which may have left no trace.
            for value in _arguments(frame):
                if value is interrupted or (
                    isinstance(value, FrameType) and value.f_back is interrupted
                ):
                    return True
            if not _is_package(frame, "torch", _PACKAGE):
                handlers = handlers or _handlers()  # it may not have kept that frame
                if frame.f_code in handlers:
                    return True
        interrupted = frame
    # Set by another thread: it comes out of nowhere.
    return (
        interrupted is not None
        and _is_package(interrupted, _PACKAGE)
        and type(error).__module__.partition(".")[0] not in _OWN
    )


class suppressed(AbstractContextManager[None]):  # noqa: N801 - as `contextlib.suppress`, whose place it takes
    """Suppress errors of these types, unless it is the program's handler that raised one.

    Example:
        >>> with suppressed(ValueError):
        ...     [].remove(1)
    """

    def __init__(self, *types: type[BaseException]) -> None:
        self._types = types

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, self._types) and not is_interruption(error)


class uncovered(AbstractContextManager[None]):  # noqa: N801 - as `suppressed`
    """Raise what a handler raises that strikes in here, and not what Python makes of it.

    `threading` (of Python 3.11) takes it for an error of its own where it waits, and cleans up what is not there: a
    lock that nobody holds is released, a thread that runs is taken from the list of those that are to.

    Example:
        >>> import threading
        >>> with uncovered():
        ...     _ = threading.Event().wait(0.01)
    """

    def __enter__(self) -> None:
        self._before = sys.exc_info()[1]  # of the program's, which is being handled

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        struck = error
        while struck is not None and struck is not self._before:
            if is_interruption(struck):
                if struck is error:
                    return
                raise struck from None
            struck = struck.__context__


def _is_package(frame: FrameType, *names: str) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in names


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _arguments(frame: FrameType) -> Iterator[Any]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    values = frame.f_locals
    for name in code.co_varnames[:count]:
        yield values.get(name)
    if code.co_flags & 0x04:  # *args
        yield from values.get(code.co_varnames[count], ())


def _handlers() -> set[CodeType]:
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while handler is not None and hasattr(handler, "func"):  # functools.partial
            handler = handler.func
        for function in (handler, vars(type(handler)).get("__call__")):
            code = getattr(getattr(function, "__func__", function), "__code__", None)
            if isinstance(code, CodeType):
                found.add(code)
    return found
