"""The optimizers whose `step` runs."""

from __future__ import annotations

import threading
from time import perf_counter_ns as now
from types import FrameType
from typing import Any

from torch.optim import Optimizer

from otel_torch_modules._events import OPTIMIZED, OPTIMIZER
from otel_torch_modules._recording.class_attributes import class_name
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.step_stamps import Stamp, StepStamps
from otel_torch_modules._recording.torch_private.loop import optimizer_step_code


class _OpenOptimizer:
    __slots__ = ("class_name", "logged", "optimizer_id", "stamp", "start")

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer_id = id(optimizer)
        self.class_name = class_name(type(optimizer))
        self.start = now()
        self.logged = False  # only once it is known which step it belongs to
        self.stamp: Stamp | None = None  # the same

    def beginning(self, thread: int) -> tuple[Any, ...]:
        """Return its event for the log; no stamp is taken now."""
        return OPTIMIZER, thread, None, self.start, self.class_name


class _Thread(threading.local):
    """What there is in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.open: list[_OpenOptimizer] = []
        self.raised: list[_OpenOptimizer] = []  # in the open step
        self.ended = 0


class OpenOptimizers:
    """Those of the thread that asks, one inside the other: each has its own."""

    def __init__(self) -> None:
        self._thread = _Thread()
        self.threads: dict[int, list[_OpenOptimizer]] = {}
        """Those of each thread in which one runs or has raised: elsewhere there is nothing to ask for."""

    def __bool__(self) -> bool:
        return bool(self._thread.open)

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self._thread.ended

    def begin_with(self, start: int) -> int:
        """Return when a step begins that begins at `start` (ns) at the latest: with the outermost, if any runs."""
        open_now = self._thread.open
        return min(start, open_now[0].start) if open_now else start

    def starts(self, optimizer: Optimizer, stamps: StepStamps | None) -> None:
        """Take note that the step of `optimizer` begins; where it calls that of its base class it has already.

        Args:
            optimizer: what steps.
            stamps: of the step that it belongs to, as far as is known.
        """
        open_now = self._thread.open
        if not open_now:
            self.threads[threading.get_ident()] = open_now
        elif self.holds(optimizer):
            return
        entry = _OpenOptimizer(optimizer)
        if stamps is not None and not open_now:
            entry.stamp = stamps.take()
        open_now.append(entry)

    def holds(self, optimizer: Optimizer) -> bool:
        """Return whether the step of `optimizer` has begun."""
        for entry in self._thread.open:  # noqa: SIM110 - of which there is one
            if entry.optimizer_id == id(optimizer):
                return True
        return False

    def ends(self, optimizer: Optimizer, recorder: Recorder, stamps: StepStamps | None) -> bool:
        """Write down that the step of `optimizer`, which has begun, ends, and with it those inside it that raised.

        Return whether there is none around it.

        Args:
            optimizer: what has stepped.
            recorder: has the log of the step that it belongs to.
            stamps: of that step.
        """
        thread = self._thread
        log, end = recorder.step.log, now()
        if log is not None:
            _log(thread.open, recorder)
            log.extend((OPTIMIZED, recorder.local.state.code, None, end, None))
        outermost = thread.open[0]
        while thread.open.pop().optimizer_id != id(optimizer):
            pass
        thread.ended += 1
        if thread.open:
            return False
        if not thread.raised:
            self.threads.pop(threading.get_ident(), None)
        if stamps is not None:
            stamps.put(outermost.start, outermost.stamp)
            stamps.put(end, stamps.take())
        return True

    def clear(self) -> None:
        """Forget those that run and those that raised: their step is lost."""
        self._thread.open.clear()
        self._thread.raised.clear()
        self.threads.pop(threading.get_ident(), None)

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
        thread = self._thread
        for place, entry in enumerate(thread.open):
            if entry.optimizer_id not in running:
                thread.raised += thread.open[place:]
                del thread.open[place:]
                return True
        return False

    def log(self, recorder: Recorder) -> None:
        """Write down those that are not yet."""
        _log(self._thread.open, recorder)

    def begun_before(self, time: int, thread: int) -> list[Any]:
        """Return the beginnings, as a log has them, of those that began before `time` (ns) and are not written down.

        Args:
            time: when something began that turns out to be of the step that they are of.
            thread: the code of the one that asks.
        """
        begun: list[Any] = []
        for entry in self._thread.open:
            if not entry.logged and entry.start < time:
                entry.logged = True
                begun += entry.beginning(thread)
        return begun

    def innermost(self, thread: int) -> str | None:
        """Return the class of the one that began last in a thread; None where there is none."""
        open_now = list(self.threads.get(thread, ()))
        return open_now[-1].class_name if open_now else None

    def unlogged(self, thread: int) -> list[tuple[str, int]]:
        """Return the class and the start of those of a thread that are not written down yet."""
        open_now = list(self.threads.get(thread, ()))
        return [(entry.class_name, entry.start) for entry in open_now if not entry.logged]

    def log_raised(self, recorder: Recorder) -> int:
        """Write down those that raised, and return when the first of them began, 0 where there is none."""
        thread = self._thread
        raised, thread.raised = thread.raised, []
        _log(raised, recorder)
        return raised[0].start if raised else 0


def _log(entries: list[_OpenOptimizer], recorder: Recorder) -> None:
    log: list[Any] | None = recorder.step.log
    for entry in entries:
        if not entry.logged:
            entry.logged = True
            if log is not None:
                log += entry.beginning(recorder.local.state.code)
