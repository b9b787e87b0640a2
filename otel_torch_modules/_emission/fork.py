"""What a forked child has to forget.

A child made by ``os.fork`` inherits queues, locks and flags, but no thread of its parent's. Callbacks of
``os.register_at_fork`` cannot be taken back, so there is one for all, and it knows its objects weakly.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """Something whose threads, locks or files must not be shared with a forked child."""

    def after_fork_in_child(self) -> None:
        """Start anew; called in the child, in its only thread."""


_aware: WeakSet[ForkAware] = WeakSet()


def watch(target: ForkAware) -> None:
    """Call `target.after_fork_in_child` in every child forked from now on."""
    _aware.add(target)


def unwatch(target: ForkAware) -> None:
    """Undo `watch`."""
    _aware.discard(target)


def _in_child() -> None:
    for target in list(_aware):
        target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
