"""What each thread of the program has done and is doing, looked at from the worker's thread without touching it."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from dataclasses import replace
from time import perf_counter_ns as now
from typing import Any

from torch import nn

from otel_torch_modules import semconv
from otel_torch_modules._control.report import MODULES, NOTHING, PHASES
from otel_torch_modules._events import FETCH, OPTIMIZER
from otel_torch_modules._recording.frames import call_path, is_inside
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.thread_state import ThreadState
from otel_torch_modules._recording.torch_private.autograd import engine_call_code
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules._records import Record, Stall, next_number

_CALL = nn.Module._call_impl.__code__


class Standing:
    """Looks at what `current` and `recorder` have."""

    def __init__(self, current: CurrentStep, recorder: Recorder) -> None:
        self._current = current
        self._recorder = recorder
        self.trained: set[int] = set()
        """The threads that have opened a step."""

    def states(self) -> dict[int, Hashable]:
        """Return for each thread a value that is another one whenever it has got on."""
        # Not the dictionary: this function's own frame is in it, and would keep itself and all others alive.
        running = set(sys._current_frames())
        self.trained &= running
        fetches = self._current.fetches_of_threads
        for thread in [thread for thread in list(fetches) if thread not in running]:
            fetches.pop(thread, None)
        step = self._current.step
        if step is not None:
            self.trained.add(step.thread)
        states: dict[int, Hashable] = {}
        for identifier, state in self._recorder.threads.living():
            if identifier in running:
                states[identifier] = self._of_thread(identifier, state, step)
        return states

    def _of_thread(self, thread: int, state: ThreadState, step: OpenStep | None) -> Hashable:
        fetches = self._current.fetches_of_threads.get(thread, {})
        calls = fetches.get("calls")
        own = state.own
        found: tuple[Hashable, ...] = (
            id(state.into),
            None if own is None or own.log is None else len(own.log),
            None if calls is None or calls.log is None else len(calls.log),
            fetches.get("evaluations"),
            fetches.get("last_end"),
            fetches.get("at_work"),
            fetches.get("began"),  # what a step that is left out waits for is kept nowhere
            # Nothing more is recorded of the call that runs: how far has it come?
            call_path(thread, _CALL) if state.stack is None else None,
        )
        if step is not None and step.thread == thread:
            record = step.record
            found += (
                self._current.index,
                self._current.end,
                id(step),
                step.ended,
                record.micro_batches,
                len(record.log),
            )
        return found

    def opened(self, thread: int) -> Record | None:
        """Return the step or the evaluation that is open in a thread; None between two."""
        step = self._current.step
        if step is not None and step.thread == thread and not step.ended:
            return step.record
        state = self._recorder.threads.get(thread)
        return None if state is None or state.own is None else state.own.record

    @property
    def awaited(self) -> int:
        """The number of the step that is open, or else of the next: the same on all ranks that wait for each other."""
        step = self._current.step
        index = None if step is None or step.ended else step.record.index
        return self._current.index if index is None else index

    @property
    def next_step(self) -> int:
        """The number of the step that opens next; one that is open has a lower one."""
        return self._current.index

    @property
    def begun(self) -> tuple[int, int] | None:
        """The number of the last step that has begun, and when (ns); None where there is none, or it has no number."""
        step = self._current.step
        if step is None or type(step.record.index) is not int:
            return None
        return step.record.index, step.record.start

    @property
    def recorded(self) -> str:
        """How deep that step is."""
        step = self._current.step
        if step is None or not step.recorded:
            return NOTHING
        return PHASES if step.record.phases_only else MODULES

    def describe(self) -> Mapping[str, Any] | None:
        """Return where the thread that trains stands, as what JSON has; None before the first step.

        No log is read for it: what is open in a thread is known.
        """
        step = self._current.step
        if step is not None:
            self.trained.add(step.thread)
        thread = next(iter(self.trained), None) if step is None else step.thread
        state = None if thread is None else self._recorder.threads.get(thread)
        if thread is None or state is None:
            return None
        offset = clock_offset()
        opened = self.opened(thread)
        modules = [site.fqn for site in (state.stack or ())[1:]]
        fetches = self._current.fetches_of_threads.get(thread, {})
        optimizer = self._current.optimizers.innermost(thread)
        began = self._current.end if opened is None else opened.start
        if fetches.get("at_work"):
            place, began = semconv.DATA_WAIT, fetches["began"]
        elif modules:
            recomputes = self._recorder.tasks.any_runs
            prefix = semconv.RECOMPUTE_PREFIX if recomputes else semconv.FORWARD_PREFIX
            place = prefix + modules[-1]
        elif self._recorder.tasks.any_runs or is_inside(thread, engine_call_code):
            place = semconv.BACKWARD_PASS
        elif state.stack is None:  # no more is recorded of it than that, or not that
            place = semconv.PHASE_FORWARD
        else:
            place = "" if optimizer is None else semconv.OPTIMIZER_PREFIX + optimizer
        # To the millisecond: the two clocks are not read at once.
        began = round(began + offset, -6)
        return {"step": self.awaited, "place": place, "modules": modules, "began": began}

    def snapshot(self, thread: int, stall: Stall) -> Record:
        """Return what a thread has done so far, and what it is at, as a record of its own that ends now."""
        opened = self.opened(thread)
        if opened is not None:
            log = list(opened.log)
            record = replace(
                opened,
                trace_id=0,
                span_id=0,
                parent=None,
                shared=None,
                sampler_attributes={},
                context=None,
                dropped_before=0,
                number=next_number(),
            )
        else:
            log = []
            start = self._current.end or now()
            record = Record("stall", None, start, clock_offset())
        log += self._pending(thread)
        record.kind = "stall"
        record.index = self.awaited
        record.site = None
        record.log = log
        record.end = now()
        record.stall = stall
        return record

    def _pending(self, thread: int) -> list[Any]:
        """Return the events of what is written down only when it is over."""
        state = self._recorder.threads.get(thread)
        if state is None:
            return []
        events: list[Any] = []
        fetches = self._current.fetches_of_threads.get(thread, {})
        if fetches.get("at_work"):
            events += FETCH, state.code, None, fetches["began"], None
            calls = fetches["calls"]
            events += [] if calls is None or calls.log is None else calls.log
        if thread in self.trained:
            for class_name, start in self._current.optimizers.unlogged(thread):
                events += OPTIMIZER, state.code, None, start, class_name
        return events
