"""Root forwards outside any step that are one record."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections import deque
from typing import Any

import torch
from torch import nn

from otel_torch_modules._events import WIDTH
from otel_torch_modules._recording.loop.fetches import Wait, Waits
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.thread_state import ThreadState
from otel_torch_modules._records import Record

# How many forwards of an evaluation can be taken back.
_MOST_TAKEN = 32


class Forward:
    """A root forward outside any step.

    Args:
        module: what was called.
        start: when.
        log: what it holds; filled in where it is taken back.
    """

    __slots__ = ("_class", "log", "module", "place", "start", "trainable")

    def __init__(self, module: weakref.ref[nn.Module], start: int, log: list[Any]) -> None:
        self.module = module
        self._class = type(module())
        self.start = start
        self.log = log
        self.place = 0
        """Where it begins in the log of its evaluation."""
        self.trainable = torch.is_grad_enabled()
        """A backward may come to it."""

    def calls_one_like(self, module: nn.Module) -> bool:
        """Return whether what it called is of the class of `module`."""
        return self._class is type(module)

    def calls_the_same(self, other: Forward) -> bool:
        """Return whether `other` is of the same module, or of one of its class that was made instead of it."""
        if self.module is other.module:
            return True
        is_gone = self.module() is None or other.module() is None
        return is_gone and self._class is other._class


class Evaluation:
    """Root forwards in a row.

    Args:
        record: what is recorded of them.
        recorded: whether that is anything.
        waits: of the thread's loop for data, those that may be its own.
        thread: that it is of.
    """

    __slots__ = (
        "forwards",
        "into",
        "is_one_forward",
        "leads_only",
        "phases_only",
        "record",
        "recorded",
        "thread",
        "thread_id",
        "waits",
    )

    def __init__(
        self, record: Record, recorded: bool, waits: Waits, thread: weakref.ref[ThreadState]
    ) -> None:
        self.record = record
        self.recorded = recorded
        self.phases_only = record.phases_only  # by the choice of ranks
        self.is_one_forward = record.site is not None
        """It is that of a process that has never trained: each forward by itself."""
        self.leads_only = False
        """It is recorded in case that it leads to the next step, and is none that is sent by itself."""
        self.waits = waits
        self.into = OpenLog()
        self.thread = thread
        self.thread_id = threading.get_ident()
        self.forwards: deque[Forward] = deque(maxlen=_MOST_TAKEN)  # the last ones

    @property
    def has_earlier(self) -> bool:
        """Whether there are forwards in it that cannot be taken back any more."""
        return self.record.forwards > len(self.forwards)

    def take_last(self) -> Forward:
        """Return the last forward, with its log, and give it up."""
        forward = self.forwards.pop()
        record = self.record
        # The list itself: a call that is open goes on writing to it.
        forward.log, record.log = record.log, record.log[: forward.place]
        del forward.log[: forward.place]
        record.forwards -= 1
        record.end = min(record.end or forward.start, forward.start)
        self.into = OpenLog()
        return forward

    def close(self) -> Record | None:
        """Return its record with all that belongs to it, None where there is nothing to send."""
        self.into.turn_to(None)
        record = self.record
        if not self.recorded or not record.log or self.leads_only:
            return None
        if not self.is_one_forward:
            waits = self.waits.settled()
            if waits:
                record.start = min(record.start, waits[0].start)
                record.log = _with(waits, record)
        return record


def _with(waits: list[Wait], record: Record) -> list[Any]:
    """Return the log of `record` with `waits`, all in the order of time."""
    log = record.log
    times = log[3::WIDTH]
    merged: list[Any] = []
    place = 0
    for wait in waits:
        until = WIDTH * bisect_left(times, wait.start)
        merged += log[place:until]
        merged += wait.events(record)
        place = until
    return merged + log[place:]
