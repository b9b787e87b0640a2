"""Which exception has left the program: Python says so when it ends, and nobody has to stand in its way before that."""

from __future__ import annotations

import sys
from multiprocessing.process import BaseProcess
from typing import Final

_CHILD: Final = vars(BaseProcess)["_bootstrap"].__code__  # calls what a child has of the program


def error_that_ends_the_program() -> BaseException | None:
    """Return the exception that has left the program's main module, or what a `multiprocessing` child was to run.

    None where there is none as far as is known, or a prompt is there to go on: to be asked at exit, in the main thread.
    """
    return _that_ends_a_child() or _that_left_the_main_module()


def _that_left_the_main_module() -> BaseException | None:
    traceback = getattr(sys, "last_traceback", None)
    if traceback is None or hasattr(sys, "ps1") or sys.flags.interactive:
        return None
    outermost = traceback.tb_frame
    if (
        outermost.f_globals is vars(sys.modules["__main__"])
        or outermost.f_globals.get("__name__") == "runpy"
    ):
        error = getattr(sys, "last_value", None)
        return error if isinstance(error, BaseException) else None
    return None


def _that_ends_a_child() -> BaseException | None:
    error = sys.exc_info()[1]  # it is on its way: a child's end is called in a `finally`
    traceback = None if error is None else error.__traceback__
    if error is None or traceback is None or traceback.tb_frame.f_code is not _CHILD:
        return None
    if isinstance(error, SystemExit):  # torch's own children catch what is raised, say it and exit
        return error.__context__ if error.code else None
    return error
