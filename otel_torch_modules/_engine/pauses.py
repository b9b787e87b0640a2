"""Long work of the worker in small slices, so that the training thread does not wait for the interpreter lock.

A thread that holds the lock is asked to give it up after 5 ms (`sys.getswitchinterval`), and training releases it at
each operation: without a pause of ours each of these could wait that long. Only a pause with some length helps, for one
of none takes the lock back before the thread that waits has woken up.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import TypeVar

_PAUSE_S = 50e-6
_MANY = 2_048  # tenths of a microsecond each

_T = TypeVar("_T")


def slices(items: list[_T], size: int) -> Iterator[list[_T]]:
    """Yield `items` in lists of `size`, with a pause between two."""
    for start in range(0, len(items), size):
        if start:
            pause()
        yield items[start : start + size]


def pause_after(count: int) -> None:
    """Make a pause where something was done to so many things, by a column, that a thread may wait by now."""
    if count >= _MANY:
        pause()


class _Progress:
    """How many slices have been done in this process: who waits for the worker sees by it that there is work done."""

    slices = 0


progress = _Progress()


def pause() -> None:
    """Let another thread have the interpreter lock."""
    progress.slices += 1
    sleep(_PAUSE_S)
