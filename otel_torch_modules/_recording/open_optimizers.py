"""The optimizers whose `step` runs."""

from __future__ import annotations

import threading
from time import perf_counter_ns as now
from typing import Any

from torch.optim import Optimizer

from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import OPTIMIZER


class _OpenOptimizer:
    __slots__ = ("class_name", "logged", "optimizer_id", "start")

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer_id = id(optimizer)
        self.class_name = type(optimizer).__name__
        self.start = now()
        self.logged = False  # only once it is known which step it belongs to


class OpenOptimizers(threading.local):
    """Those of the thread that asks, one inside the other: each has its own. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self._open: list[_OpenOptimizer] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def start(self) -> int | None:
        """When the outermost began; None where there is none."""
        return self._open[0].start if self._open else None

    def starts(self, optimizer: Optimizer) -> None:
        """Take note that the step of `optimizer` begins."""
        for place, entry in enumerate(self._open):
            if entry.optimizer_id == id(optimizer):
                # It calls the step of its base class, or it raised and tries again: one step, in either case.
                if entry.logged:
                    return
                del self._open[place:]
                break
        self._open.append(_OpenOptimizer(optimizer))

    def holds(self, optimizer: Optimizer) -> bool:
        """Return whether the step of `optimizer` has begun."""
        return any(entry.optimizer_id == id(optimizer) for entry in self._open)

    def ends(self, optimizer: Optimizer) -> None:
        """Take note that the step of `optimizer` ends.

        An optimizer whose step raised never comes here: it goes with the one that encloses it.
        """
        started = [entry.optimizer_id for entry in self._open]
        del self._open[started.index(id(optimizer)) :]

    def clear(self) -> None:
        """Forget those that an exception has left."""
        self._open.clear()

    def log(self, recorder: Recorder) -> None:
        """Write down those that are not yet."""
        log: list[Any] | None = recorder.log
        for entry in self._open:
            if not entry.logged:
                entry.logged = True
                if log is not None:
                    code = recorder.thread.code
                    log.extend((OPTIMIZER, code, entry.class_name, entry.start, None))
