"""What is sent when the process ends.

``atexit`` calls back last in, first out. The SDK's own shutdown of a provider is such a callback, so ours
registers again when a provider is seen for the first time: then it comes before.
A process that was interrupted ends by SIGINT, and its parent may ask for that. CPython forgets it when any thread
evaluates a text after that, as the import of a module with a named tuple does: so it is reminded, by a text.

No signal handler is installed: a Python handler for SIGTERM would keep a rank that hangs in a collective from dying.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from otel_torch_modules._program_end import error_that_ends_the_program
from otel_torch_modules._weak_table import WeakTable


class AtExit:
    """Calls `finish` once when the process ends in an orderly way, a `multiprocessing` child's too."""

    def __init__(self, finish: Callable[[], Any]) -> None:
        self._finish = finish
        self._registered = False
        self._finalizer: multiprocessing.util.Finalize | None = None
        _known.put(self, True)

    def register(self) -> None:
        """Be called at exit, before all that has been registered until now."""
        self.unregister()
        self._registered = True
        atexit.register(self._end)
        if multiprocessing.parent_process() is not None:  # a forked child ends without `atexit`
            self._finalizer = multiprocessing.util.Finalize(None, self._finish, exitpriority=0)

    def _end(self) -> None:
        try:
            self._finish()
        finally:
            if _was_interrupted():
                with suppress(KeyboardInterrupt):
                    exec("raise KeyboardInterrupt")

    def register_in_child(self) -> None:
        """Do it again: a forked child drops its parent's finalizers."""
        if self._registered:
            self.register()

    def unregister(self) -> None:
        """Undo `register`."""
        self._registered = False
        atexit.unregister(self._end)
        if self._finalizer is not None:
            self._finalizer.cancel()
            self._finalizer = None


_known: Final = WeakTable[AtExit, bool]()


def _register_in_child(known: WeakTable[AtExit, bool]) -> None:
    for at_exit in known:
        at_exit.register_in_child()


# For one object that stays: that of one which goes is taken back by a callback in Python.
multiprocessing.util.register_after_fork(_known, _register_in_child)


def _was_interrupted() -> bool:
    """Return whether the program's main module was left by a KeyboardInterrupt, and no prompt is there to go on."""
    return type(error_that_ends_the_program()) is KeyboardInterrupt
