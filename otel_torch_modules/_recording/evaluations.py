"""Root forwards outside any step: evaluation, sampling, serving."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns as now
from time import time_ns

from torch import nn

from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.spending import Spending
from otel_torch_modules._records import Record, StepContext
from otel_torch_modules.config import Config


class _Thread(threading.local):
    """What is open in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.record: Record | None = None
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

    def root_opens(self, module: nn.Module, last_step: int) -> bool:
        """Return whether the root call of `module` that begins now, after the step `last_step`, is recorded."""
        if "eval" not in self._config.phases:
            return False
        if not self._config.schedule.records(last_step):
            return False
        record = Record("eval", None, now(), time_ns() - now())
        thread = self._thread
        thread.suspended = self._recorder.record
        thread.record = record
        sites = self._recorder.sites
        record.site = sites.by_id.get(id(module)) or sites.add(module)
        if not self._context.open(record):
            thread.record = None
            return False
        if self._spending is not None:
            self._spending.set_depth_of_evaluation(record)
        self._recorder.write_to(record)
        self._context.attach(record)
        return True

    def root_closes(self, failed: bool) -> bool:
        """Return whether the root call that ends now in this thread is one that is recorded here."""
        thread = self._thread
        record = thread.record
        if record is None:
            return False
        record.end = now()
        record.failed = failed
        self._recorder.write_to(thread.suspended)
        if record.lost:
            thread.record = None
            return True
        self._context.detach(record)
        thread.record = None  # from here on it is another's
        self._submit(record)
        if self._spending is not None:
            self._spending.evaluation_closes(record)
        return True

    def lose(self) -> bool | None:
        """Drop the record that is open in this thread; return whether it was not lost before, None where none is open.

        It stays open until its root call ends, so that nothing else is recorded inside.
        """
        thread = self._thread
        record = thread.record
        if record is None:
            return None
        if record.end:  # it was about to be handed over
            self._recorder.write_to(thread.suspended)
            thread.record = None
        known, record.lost = record.lost, True
        record.log = []
        self._context.detach(record)
        return not known

    def forget(self) -> None:
        """A root call begins in this thread: none is open, whatever became of the last."""
        self._thread.record = None

    def abandon(self) -> None:
        """Drop what is open in this thread: it is another process's."""
        self._thread.record = None
        self._thread.suspended = None
