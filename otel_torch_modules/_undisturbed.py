"""Where to call what takes all that is raised in it for an error of its own, as `logging` and `traceback` do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, TypeVar

from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._own_thread import StandIn

T = TypeVar("T")

_PATIENCE_S: Final = 1.0  # who waits may hold a lock that is waited for


def undisturbed(call: Callable[[], T]) -> T | None:
    """Return what `call` returns; None where it raises or takes long.

    It is for what takes all that is raised in it for an error of its own, as `logging` and `traceback` do. Python runs
    handlers of signals in the main thread alone: another one calls it, and what they raise meanwhile comes out of here.
    """
    found: list[T] = []
    context = copy_context()

    def run() -> None:
        with suppressed(BaseException):
            found.append(context.run(call))

    if threading.current_thread() is not threading.main_thread():
        run()
        return found[0] if found else None
    thread = StandIn(target=run, name="otel-torch-modules undisturbed", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # at the end of the process Python starts none
        if is_interruption(error):
            raise
        run()
    else:
        thread.join(_PATIENCE_S)
    return found[0] if found else None
