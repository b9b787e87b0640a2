"""The step that is open, or has ended last: how it begins, ends, and leaves for the worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns as now
from typing import Any

from torch.optim import Optimizer

from otel_torch_modules._events import Event
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.causes.measures import Measures
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._recording.loop.apart import Apart
from otel_torch_modules._recording.loop.border import Border
from otel_torch_modules._recording.loop.ended_steps import EndedSteps
from otel_torch_modules._recording.loop.fetches import Fetches, Outside, Wait
from otel_torch_modules._recording.loop.open_optimizers import OpenOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.pauses import Pauses
from otel_torch_modules._recording.loop.step_number import MOST
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private.devices import accelerator
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules._records import Record

# A step that has ended leaves for the worker when nothing has happened for so long (ns).
_IDLE = 300_000_000


class CurrentStep:
    """Opens and ends steps.

    Args:
        recorder: records into what is opened here.
        admission: whether steps are recorded, and where they go.
        border: takes forwards that turn out to be no step's.
        optimizers: whose steps run.
        measures: are taken of each step.
        hurry: returns what to call, in C, where the thread ends that has ended a step.
        device_events: are taken of each step; None for none.
    """

    def __init__(
        self,
        recorder: Recorder,
        admission: Admission,
        border: Border,
        optimizers: OpenOptimizers,
        measures: Measures,
        hurry: Callable[[], Callable[[object], None]],
        device_events: DeviceEvents | None = None,
    ) -> None:
        self.recorder = recorder
        self._ended = EndedSteps(hurry, self._send)
        self._admission = admission
        self._border = border
        self.measures = measures
        """Are taken of each step: told of its beginning when it is known when that is."""
        self._device_events = device_events
        self.fetches_of_threads: dict[int, dict[str, Any]] = {}
        """The attributes of `fetches` in each thread, by its identifier, for who looks on from another one."""
        self.outside = Outside()
        self.fetches = Fetches(self.fetches_of_threads, self.outside)
        self.optimizers = optimizers
        self.pauses = Pauses()
        self.apart = Apart(admission)
        self.step: OpenStep | None = None
        """The open one, or one that has ended and that nobody has taken."""
        self.index = 0
        """The number of the next step."""
        self._first = 0  # the lowest number that a step had, or may have
        self.end = 0
        """When something happened last in the open step (ns)."""
        self.by_hand = False
        """The program says where steps are."""
        self.spoiled = False
        """What belongs to the step that opens next is lost."""
        self.ending = False
        """What happens now may end the step."""
        self.has_modules = True
        """The last step has modules, or would have."""
        # Which one trains; None where none does, as far as is known.
        self._thread: int | None = None
        self._waits: list[Wait] = []  # the next step's, as far as is known

    @property
    def last_index(self) -> int | None:
        """The number of the last step; None where there has been none."""
        return self.index - 1 if self.index > self._first else None

    @property
    def is_of_another_thread(self) -> bool:
        """Whether it is another thread that trains, between two steps too."""
        return self._thread not in (None, threading.get_ident())

    # It begins.

    def make(self, start: int, index: int | None, *, lost: bool) -> OpenStep:
        """Begin a step; the one before has been handed over.

        Args:
            start: when it begins (ns).
            index: its number; None for the next.
            lost: what belongs to it is lost, as far as is known.
        """
        if index is None:
            index = self.index
        self.index = index + 1 if index < MOST else 0
        if index < self._first:
            self._first = index
        self.apart.before = None
        record = Record("step", index, start, 0, lost=lost)
        step = self.step = OpenStep(record, recorded=False)
        self._thread = step.thread
        self.spoiled = False
        step.recorded = self._admission.open_step(record)
        if step.recorded:
            record.clock_offset = clock_offset()
            if self._device_events is not None and accelerator() is not None:
                self._device_events.step_opens(record)
        self.has_modules = not record.phases_only
        self.recorder.step.turn_to(record if step.recorded else None)
        return step

    # It ends.

    def end_step(self, step: OpenStep) -> None:
        """Let `step` have ended, as far as is known."""
        if not self.by_hand:
            step.ended = True
            self._admission.context.detach(step.record)
            step.detached_in = threading.get_ident()
            if step.recorded:
                self.measures.step_ends(step.record, self.end)
            else:  # what follows is of the next one
                self.recorder.step.in_full = self._admission.admits_step(self.index)
            if not step.released:
                if step.first_reached:
                    self._border.give_back(step.leave_early_roots(), self._index_before)
                step.released = True
                self._ended.put(step.record, self.recorder.local.state)

    def end_by_optimizer(self, step: OpenStep) -> None:
        """Let it have ended as most do."""
        self.pauses.straight_on = True
        step.stepped = True
        step.dropped = step.raised = False
        self.end_step(step)

    def end_by_update(self, step: OpenStep) -> None:
        """Let it have ended where the next iteration begins: its optimizer has stepped and was not seen."""
        waits = self._waits_after(step)
        self._waits += waits
        self.end = waits[0].start if waits else now()
        step.record.optimizer_compiled = True
        self.end_by_optimizer(step)

    def break_off(self, step: OpenStep) -> None:
        """Let it have ended by an exception."""
        step.record.failed = True
        self._waits += self._waits_after(step)
        self.end = max(self.end, self.optimizers.log_raised(self.recorder))
        self.end_step(step)

    def left_by(self, error: BaseException | None) -> None:
        """Take note that `error`, if any, has left the program: a step that is open in this thread was ended by it."""
        step = self.step
        if error is None or step is None or step.ended or step.thread != threading.get_ident():
            return
        step.left_by(error)

    def take_waits(self) -> list[Wait]:
        """Return the waits for data that came before it showed that the step was over: they are the next one's."""
        waits, self._waits = self._waits, []
        step = self.step
        return waits if step is None or step.released else waits + self._waits_after(step)

    def _waits_after(self, step: OpenStep) -> list[Wait]:
        if step.released or self.by_hand:  # it may be the worker's, or is the program's word
            return []
        return step.leave_waits()

    def leave_raised(self, starting: Optimizer | None) -> None:
        """Take note of optimizers whose step has left the stack by an exception; `starting` is none of them."""
        if self.optimizers and self.optimizers.leave_raised(sys._getframe(1), starting):
            step = self.reclaim()
            if step is not None:
                step.raised = True  # unless an optimizer steps in it after all, it is over

    def reclaim(self) -> OpenStep | None:
        """Return the step that what happens now can be put into, taken back if it had ended; None if there is none."""
        step = self.step
        if step is not None and step.released:
            step.released = False
            if not self._ended.take_back():
                self.drop()
        return self.step

    # It leaves.

    def hand_over(self) -> None:
        """Send off what there is, whatever state it is in."""
        tasks = self.recorder.tasks
        if tasks.open:
            tasks.settle()
        step = self.step
        if step is not None and step.released:
            step = self.reclaim()
        if step is not None:
            if step.detached_in != threading.get_ident():
                self._admission.context.detach(step.record)
            if self.recorder.step.record is step.record:
                self.recorder.step.leave()
                if tasks.open:
                    tasks.forget()
            if step.first_reached:
                self._border.give_back(step.leave_early_roots(), self._index_before)
            step.record.end = self.end
            if self.by_hand:  # what comes after is in none
                self.apart.before = step.record if step.recorded else None
                if step.recorded:
                    self.measures.step_ends(step.record, self.end)
            self.step = None  # from here on it is another's
            self._admission.close(step.record)

    def hand_over_idle(self) -> None:
        """Send off what ended a while ago, or in a thread that is gone."""
        self._ended.send_idle(self._is_idle)

    def _is_idle(self) -> bool:
        return now() - self.end > _IDLE and not self.recorder.tasks.any_runs

    def hand_over_ended(self) -> None:
        """Send off what has ended."""
        self._ended.send_all()

    def _send(self, record: Record) -> None:
        record.end = self.end
        self._admission.close(record)

    def drop(self) -> None:
        """Let there be none, and let nobody train, as far as is known."""
        self.step = self._thread = None
        self.recorder.step.leave()

    def lose(self) -> bool:
        """Drop the open step; return whether it was not lost before.

        It stays open until it would have ended: half a step is worse than none. One that has ended is sent, unless it
        was being changed.
        """
        step = self.step
        if step is not None and step.ended and step.whole:  # unless it was lost before
            try:
                self.hand_over()
            finally:
                self._ended.clear()
                step = self.step = None
        known = False
        if step is not None:
            known, step.record.lost = step.record.lost, True  # first: then nobody sends it any more
            self.spoiled = step.recorded = False
            step.record.log = []
        if self.ending:  # there is no better moment
            self.ending = False
            self.end_lost(step)
        if step is not None:
            self._admission.context.detach(step.record)
        return not known

    def end_lost(self, step: OpenStep | None) -> None:
        """Let what is lost have ended: `step`, or where it is None what would have opened one."""
        self.spoiled = False
        self._waits = []
        self.fetches.drop()
        self.optimizers.clear()
        self.fetches.take()
        if step is not None:
            step.ended = not self.by_hand

    def abandon(self) -> None:
        """Drop what is open: its log belongs to another process now, which alone has trained."""
        self._ended.clear()
        self._waits = []
        self.drop()
        self.recorder.step.turn_to(None)
        self.index = self._first = 0
        self.recorder.tasks.forget()

    # What is written into it.

    def log_waits(self, waits: list[Wait]) -> None:
        """Write down waits for data."""
        record = self.recorder.step.record
        if record is not None:
            for wait in waits:
                record.log += wait.events(record)  # they are over: no stamps are taken

    def log(self, event: Event, begin: int | None = None, said: Any = None) -> int:
        """Write down an event of the thread that asks, and return when it was (ns).

        Args:
            event: its declaration.
            begin: when it began, of one that has lasted; perf_counter_ns.
            said: what is said of it.
        """
        log, time = self.recorder.step.log, now()
        if log is not None:
            log.extend((event, self.recorder.local.state.code, begin, time, said))
        return time

    @property
    def _index_before(self) -> int | None:
        return self.index - 2 if self.index - 1 > self._first else None
