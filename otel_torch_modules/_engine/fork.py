"""What a forked child has to forget, and when there must be no fork.

A child made by ``os.fork`` inherits queues, locks and flags, but no thread of its parent's. Callbacks of
``os.register_at_fork`` cannot be taken back, so there is one for all, and it knows its objects weakly. Python discards
what is raised in them: in the parent none is a function in Python, where a signal handler of the program's could
strike. In the child, to which hardly anybody has sent a signal yet, Python's own modules have such functions too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from otel_torch_modules._weak_table import WeakTable

held_off: Final = threading.RLock()
"""Held by a thread of ours while it imports modules, and ``os.fork`` waits for it.

The child would inherit the lock of a module that is being imported, but not the thread that would release it: its own
import of that module would never end.
"""

_in_call: Final = threading.RLock()
_events: Final = SimpleQueue[Any]()  # None: a fork waits; else a call that is done


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


class Future(Protocol):
    """A call that goes on elsewhere."""

    def add_done_callback(self, callback: Callable[[Any], Any], /) -> Any:
        """Call `callback` with this when it is done."""


_Future = TypeVar("_Future", bound=Future)


def broken_off(begin: Callable[[], _Future], break_off: Callable[[], Any]) -> _Future:
    """Return what `begin` returns when it is done, which `break_off` sees to where the process is about to fork.

    ``os.fork`` waits for that. One thread at a time is in here.
    """
    with _in_call:
        call = begin()
        call.add_done_callback(_events.put)
        forks = 0
        while (event := _events.get()) is not call:
            if event is None:
                forks += 1
                break_off()
        for _ in range(forks):  # each takes one away when it has forked
            _events.put(None)
    return call


def _in_child() -> None:
    while not _events.empty():
        _events.get()
    _in_call.release()
    held_off.release()
    for target in _aware:
        target.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    # Before a fork the last one comes first.
    os.register_at_fork(
        before=held_off.acquire, after_in_parent=held_off.release, after_in_child=_in_child
    )
    os.register_at_fork(before=_in_call.acquire, after_in_parent=_events.get_nowait)
    os.register_at_fork(before=partial(_events.put, None), after_in_parent=_in_call.release)
