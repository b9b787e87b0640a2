"""What is sent when the process ends.

``atexit`` calls back last in, first out. The SDK's own shutdown of a provider is such a callback, so ours
registers again when a provider is seen for the first time: then it comes before.
No signal handler is installed: a Python handler for SIGTERM would keep a rank that hangs in a collective from dying.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
from collections.abc import Callable
from typing import Any


class AtExit:
    """Calls `finish` once when the process ends in an orderly way, a `multiprocessing` child's too."""

    def __init__(self, finish: Callable[[], Any]) -> None:
        self._finish = finish
        self._registered = False
        self._finalizer: multiprocessing.util.Finalize | None = None
        # A forked child drops its parent's finalizers. This is known weakly, so it needs no undoing.
        multiprocessing.util.register_after_fork(self, AtExit._register_in_child)

    def register(self) -> None:
        """Be called at exit, before all that has been registered until now."""
        self.unregister()
        self._registered = True
        atexit.register(self._finish)
        if multiprocessing.parent_process() is not None:  # a forked child ends without `atexit`
            self._finalizer = multiprocessing.util.Finalize(None, self._finish, exitpriority=0)

    def _register_in_child(self) -> None:
        if self._registered:
            self.register()

    def unregister(self) -> None:
        """Undo `register`."""
        self._registered = False
        atexit.unregister(self._finish)
        if self._finalizer is not None:
            self._finalizer.cancel()
            self._finalizer = None
