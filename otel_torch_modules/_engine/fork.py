"""What a forked child has to forget, and when there must be no fork.

A child made by ``os.fork`` inherits queues, locks and flags, but no thread of its parent's. Callbacks of
``os.register_at_fork`` cannot be taken back, so there is one for all, and it knows its objects weakly. Python discards
what is raised in them: in the parent none is a function in Python, where a signal handler of the program's could
strike. In the child, to which hardly anybody has sent a signal yet, Python's own modules have such functions too.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol

from otel_torch_modules._weak_table import WeakTable

held_off: Final = threading.RLock()
"""Held by a thread of ours while it imports modules, and ``os.fork`` waits for it.

The child would inherit the lock of a module that is being imported, but not the thread that would release it: its own
import of that module would never end.
"""


class ForkAware(Protocol):
    """Something whose threads, locks or files must not be shared with a forked child."""

    def after_fork_in_child(self) -> None:
        """Start anew; called in the child, in its only thread."""


_aware: Final = WeakTable[ForkAware, bool]()


def watch(target: ForkAware) -> None:
    """Call `target.after_fork_in_child` in every child forked from now on."""
    _aware.put(target, True)


def unwatch(target: ForkAware) -> None:
    """Undo `watch`."""
    _aware.drop(target)


def _in_child() -> None:
    held_off.release()
    for target in _aware:
        target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=held_off.acquire, after_in_parent=held_off.release, after_in_child=_in_child
    )
