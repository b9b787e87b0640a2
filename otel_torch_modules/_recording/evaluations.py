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
        sites = self._recorder.sites
        record.site = sites.by_id.get(id(module)) or sites.add(module)
        if not self._context.open(record):
            return False
        thread = self._thread
        thread.suspended = self._recorder.record
        thread.record = record
        if self._spending is not None:
            self._spending.set_depth_of_evaluation(record)
        self._recorder.write_to(record)
        self._context.attach(record)
        return True

    def root_closes(self, failed: bool) -> bool:
        """Return whether the root call that ends now in this thread is one that is recorded here."""
        thread = self._thread
        record, thread.record = thread.record, None
        if record is None:
            return False
        record.end = now()
        record.failed = failed
        self._context.detach(record)
        self._recorder.write_to(thread.suspended)
        thread.suspended = None
        self._submit(record)
        if self._spending is not None:
            self._spending.evaluation_closes(record)
        return True

    def drop(self) -> None:
        """Drop what is open in this thread, after an error of ours."""
        record, self._thread.record = self._thread.record, None
        if record is not None:
            self._context.detach(record)

    def abandon(self) -> None:
        """Drop what is open in this thread: it is another process's."""
        self._thread.record = None
        self._thread.suspended = None
