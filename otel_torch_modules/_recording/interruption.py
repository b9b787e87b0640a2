"""Tells an exception that strikes our code from outside from an error of ours.

A signal handler runs between any two lines, so also between two of ours: what it raises is the program's and has to
reach it. So has what a debugger's trace function raises, and what another thread sets in this one.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

_PACKAGE: Final = __name__.partition(".")[0]

# Where the types of exceptions come from that our code can get from what it calls.
_OWN: Final = frozenset({_PACKAGE, "torch", "opentelemetry", *sys.stdlib_module_names})


def is_interruption(error: BaseException) -> bool:
    """Return whether `error`, caught in code of ours, was raised by what interrupted it, and not by what it called."""
    if not isinstance(error, Exception):
        return True
    interrupted = None
    handlers = None
    for frame in _frames(error.__traceback__):
        if interrupted is not None:
            # Handlers and trace functions are given the frame that they interrupt, and nobody else is.
            if any(value is interrupted for value in _arguments(frame)):
                return True
            handlers = handlers or _handlers()  # it may not have kept that frame
            if frame.f_code in handlers:
                return True
        interrupted = frame
    # Set by another thread: it comes out of nowhere.
    return (
        interrupted is not None
        and interrupted.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE
        and type(error).__module__.partition(".")[0] not in _OWN
    )


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
