"""Root forwards outside any step: evaluation, sampling, serving, and those of which it is not known yet.

A forward may turn out to be training's: a backward comes to it though its module is not in training mode, or it is a
target network's, and the forward that is trained follows. So the last few are held back for a moment.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns as now
from time import time_ns

import torch
from torch import nn

from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.spending import Spending
from otel_torch_modules._records import EXIT, WIDTH, Record, StepContext
from otel_torch_modules.config import Config

_MOST_HELD = 4
_IDLE = 300_000_000  # ns


class Forward:
    """A root forward outside any step."""

    __slots__ = ("module", "record", "thread", "trainable")

    def __init__(self, record: Record, module: nn.Module) -> None:
        self.record = record
        self.module = weakref.ref(module)
        self.thread = threading.get_ident()
        self.trainable = torch.is_grad_enabled()
        """A backward may come to it."""


class _Thread(threading.local):
    """What is open in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.forward: Forward | None = None
        self.suspended: Record | None = None  # the step that waits while it is recorded


class Evaluations:
    """Opens and closes a record for each root forward outside any step.

    Args:
        config: whether evaluations are recorded, and beside which steps.
        recorder: records into what is opened here.
        context: makes a record the program's current span.
        submit: takes a finished record; must not block.
        spending: decides how deep records go; None where there is no budget and all are full.
    """

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        context: StepContext,
        submit: Callable[[Record], object],
        spending: Spending | None,
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._context = context
        self._submit = submit
        self._spending = spending
        self._thread = _Thread()
        self._held: deque[Forward] = deque()  # who pops one owns it, the loop or the worker

    def root_opens(self, module: nn.Module, last_step: int) -> bool:
        """Return whether the root call of `module` that begins now, after the step `last_step`, is recorded."""
        if not self._records(last_step):
            return False
        record = Record("eval", None, now(), time_ns() - now())
        thread = self._thread
        thread.suspended = self._recorder.record
        thread.forward = Forward(record, module)
        record.site = self._recorder.sites.root(module)
        if not self._context.open(record):
            thread.forward = None
            return False
        if self._spending is not None:
            self._spending.set_depth_of_evaluation(record)
        self._recorder.write_to(record)
        self._context.attach(record)
        return True

    def _records(self, last_step: int) -> bool:
        return "eval" in self._config.phases and self._config.schedule.records(last_step)

    def root_closes(self, failed: bool) -> bool:
        """Return whether the root call that ends now in this thread is one that is recorded here."""
        thread = self._thread
        forward = thread.forward
        if forward is None:
            return False
        record = forward.record
        record.end = now()
        record.failed = failed
        forward.trainable &= bool(record.log) and record.log[-WIDTH] is EXIT  # it made a graph
        self._recorder.write_to(record if forward.trainable else thread.suspended)
        if record.lost:
            thread.forward = None
            return True
        self._context.detach(record)
        thread.forward = None  # from here on it is another's
        self._held.append(forward)
        while len(self._held) > _MOST_HELD:
            self._release_oldest()
        if self._spending is not None:
            self._spending.evaluation_closes(record)
        return True

    # What turns out to be a step's.

    def reached_by(self, number: int) -> list[Forward]:
        """Return the forwards that a backward which begins at this sequence number trains, and give them up.

        They are the last ones in a row that have a graph, the open one included.
        """
        last = self._thread.forward or (self._held[-1] if self._held else None)
        if last is None or not last.trainable or not last.record.log:
            return []
        if number < last.record.log[2]:  # of its first call
            return []
        taken = self._take(lambda forward: forward.trainable)
        if self._thread.forward is not None:
            taken.append(self._thread.forward)
            self._thread.forward = self._thread.suspended = None
        return taken

    def leading_to(self, module: nn.Module, since: int) -> list[Forward]:
        """Return the last forwards of other modules that lead to that of `module`, and give them up.

        Args:
            module: whose forward opens a step.
            since: when the loop had the batch for it. Where that is not known, 0, none was called twice: an evaluation
                calls one module again and again.
        """
        called = [forward.module() for forward in list(self._held)]

        def leads(forward: Forward) -> bool:
            other = forward.module()
            once = sum(one is other for one in called) == 1
            return other is not module and forward.record.start >= since and (once or since > 0)

        return self._take(leads)

    def _take(self, wanted: Callable[[Forward], bool]) -> list[Forward]:
        taken: list[Forward] = []
        thread = threading.get_ident()
        with suppress(IndexError):  # the worker may be at it too
            while True:
                forward = self._held.pop()
                if forward.thread != thread or not wanted(forward):
                    self._held.append(forward)
                    break
                taken.insert(0, forward)
        return taken

    def adopt(
        self, module: nn.Module | None, start: int, log: list[object], last_step: int
    ) -> None:
        """Record a forward of `module`, which began at `start`, that turned out to be no step's."""
        if module is None or not log or not self._records(last_step):
            return
        record = Record("eval", None, start, time_ns() - now())
        record.site = self._recorder.sites.by_id.get(id(module))
        if not self._context.open(record):
            return
        record.log = log
        record.end = log[3 - WIDTH]  # type: ignore[assignment]
        self._submit(record)

    # What stays here.

    def release(self) -> None:
        """Send off what is held back."""
        while self._held:
            self._release_oldest()

    def release_idle(self) -> None:
        """Send off what ended a while ago. Runs on the worker thread."""
        with suppress(IndexError):  # the loop may be at it too
            while now() - self._held[0].record.end > _IDLE:
                self._release_oldest()

    def _release_oldest(self) -> None:
        with suppress(IndexError):
            self._submit(self._held.popleft().record)

    def lose(self) -> bool | None:
        """Drop the record that is open in this thread; return whether it was not lost before, None where none is open.

        It stays open until its root call ends, so that nothing else is recorded inside.
        """
        thread = self._thread
        if thread.forward is None:
            return None
        record = thread.forward.record
        if record.end:  # it was about to be handed over
            self._recorder.write_to(thread.suspended)
            thread.forward = None
        known, record.lost = record.lost, True
        record.log = []
        self._context.detach(record)
        return not known

    def forget(self) -> None:
        """A root call begins in this thread: none is open, whatever became of the last."""
        self._thread.forward = None

    def abandon(self) -> None:
        """Drop what is open in this thread or held back: it is another process's."""
        self._thread.forward = None
        self._thread.suspended = None
        self._held.clear()
