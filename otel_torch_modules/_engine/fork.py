"""What a forked child has to forget, what it has to know, and when there must be no fork.

A child made by ``os.fork`` inherits queues, locks and flags, but no thread of its parent's. Callbacks of
``os.register_at_fork`` cannot be taken back, so there is one for all, and it knows its objects weakly.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakSet

held_off: Final = threading.RLock()
"""Held by a thread of ours while it imports modules, and ``os.fork`` waits for it.

The child would inherit the lock of a module that is being imported, but not the thread that would release it: its own
import of that module would never end.
"""


class ForkAware(Protocol):
    """Something whose threads, locks or files must not be shared with a forked child."""

    def after_fork_in_child(self) -> None:
        """Start anew; called in the child, in its only thread."""


class ForkPreparing(Protocol):
    """Something that parent and child must have alike, and that is not there yet."""

    def before_fork(self) -> None:
        """Make it; called in the parent, in the thread that forks."""


_aware: WeakSet[ForkAware] = WeakSet()
_preparing: WeakSet[ForkPreparing] = WeakSet()


def watch(target: ForkAware) -> None:
    """Call `target.after_fork_in_child` in every child forked from now on."""
    _aware.add(target)


def unwatch(target: ForkAware) -> None:
    """Undo `watch`."""
    _aware.discard(target)


def prepare(target: ForkPreparing) -> None:
    """Call `target.before_fork` before every fork from now on."""
    _preparing.add(target)


def _before() -> None:
    held_off.acquire()
    for target in list(_preparing):
        target.before_fork()


def _in_child() -> None:
    held_off.release()
    for target in list(_aware):
        target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=held_off.release, after_in_child=_in_child)
