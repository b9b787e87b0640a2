"""The optimizers whose `step` runs."""

from __future__ import annotations

import threading
from time import perf_counter_ns as now
from types import FrameType
from typing import Any

from torch.optim import Optimizer

from otel_torch_modules._events import OPTIMIZER
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.step_stamps import Stamp, StepStamps
from otel_torch_modules._recording.torch_private.loop import optimizer_step_code


class _OpenOptimizer:
    __slots__ = ("class_name", "logged", "optimizer_id", "stamp", "start")

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer_id = id(optimizer)
        self.class_name = type(optimizer).__name__
        self.start = now()
        self.logged = False  # only once it is known which step it belongs to
        self.stamp: Stamp | None = None  # the same


class OpenOptimizers(threading.local):
    """Those of the thread that asks, one inside the other: each has its own. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self._open: list[_OpenOptimizer] = []
        self._raised: list[_OpenOptimizer] = []  # in the open step
        self.ended = 0
        """How many have ended."""

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def start(self) -> int | None:
        """When the outermost began; None where there is none."""
        return self._open[0].start if self._open else None

    def starts(self, optimizer: Optimizer, stamps: StepStamps | None) -> None:
        """Take note that the step of `optimizer` begins; where it calls that of its base class it has already.

        Args:
            optimizer: what steps.
            stamps: of the step that it belongs to, as far as is known.
        """
        if not self.holds(optimizer):
            entry = _OpenOptimizer(optimizer)
            if stamps is not None and not self._open:
                entry.stamp = stamps.take()
            self._open.append(entry)

    def holds(self, optimizer: Optimizer) -> bool:
        """Return whether the step of `optimizer` has begun."""
        return any(entry.optimizer_id == id(optimizer) for entry in self._open)

    def ends(self, optimizer: Optimizer, end: int, stamps: StepStamps | None) -> None:
        """Take note that the step of `optimizer` ends, and with it those inside it that raised.

        Args:
            optimizer: what has stepped.
            end: when (ns), as the log has it.
            stamps: of the step that it belongs to.
        """
        started = [entry.optimizer_id for entry in self._open]
        outermost = self._open[0]
        del self._open[started.index(id(optimizer)) :]
        self.ended += 1
        if stamps is not None and not self._open:
            stamps.put(outermost.start, outermost.stamp)
            stamps.put(end, stamps.take())

    def clear(self) -> None:
        """Forget those that run and those that raised: their step is lost."""
        self._open.clear()
        self._raised.clear()

    def leave_raised(self, frame: FrameType | None, starting: Optimizer | None) -> bool:
        """Take note of those whose step has left the stack below `frame`, as nothing of torch's tells; are there any?

        Args:
            frame: of who asks.
            starting: whose step begins now, if any does: the frame of that is none of those that are open.
        """
        running = []
        while frame is not None:
            if frame.f_code is optimizer_step_code:
                running.append(id(frame.f_locals.get("self")))
            frame = frame.f_back
        if id(starting) in running:
            running.remove(id(starting))
        for place, entry in enumerate(self._open):
            if entry.optimizer_id not in running:
                self._raised += self._open[place:]
                del self._open[place:]
                return True
        return False

    def log(self, recorder: Recorder) -> None:
        """Write down those that are not yet."""
        if self._open:
            _log(self._open, recorder)

    @property
    def innermost(self) -> str | None:
        """The class of the one that began last; None where there is none."""
        open_now = list(self._open)
        return open_now[-1].class_name if open_now else None

    def unlogged(self) -> list[tuple[str, int]]:
        """Return the class and the start of those that are not written down yet."""
        return [(entry.class_name, entry.start) for entry in list(self._open) if not entry.logged]

    def log_raised(self, recorder: Recorder) -> int:
        """Write down those that raised, and return when the first of them began, 0 where there is none."""
        raised, self._raised = self._raised, []
        _log(raised, recorder)
        return raised[0].start if raised else 0


def _log(entries: list[_OpenOptimizer], recorder: Recorder) -> None:
    log: list[Any] | None = recorder.log
    for entry in entries:
        if not entry.logged:
            entry.logged = True
            if log is not None:
                code = recorder.thread.code
                log += (
                    OPTIMIZER,
                    code,
                    None,
                    entry.start,
                    entry.class_name,
                )  # no stamp is taken now
