"""What the program's loop does between modules: it waits for data, its optimizers step, it drops gradients."""

from __future__ import annotations

import logging
import threading
from time import perf_counter_ns as now
from typing import Any

from torch.optim import Optimizer
from torch.utils.data import get_worker_info

from otel_torch_modules._events import Stretch
from otel_torch_modules._log import warn
from otel_torch_modules._recording.class_attributes import class_name
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.hindsight import Hindsight
from otel_torch_modules._recording.loop.iterations import Iterations
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.updates import Updates
from otel_torch_modules._recording.torch_private.compilation import (
    compilation_metrics,
    dynamo_is_there,
)
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules._records import Record

logger = logging.getLogger("otel_torch_modules")

# A second optimizer may step late, when its step has left.
_MANY_BARE_UPDATES = 3

# A few may be looked at before training, or dropped to come to where a run had stopped.
_MANY_BARE_BATCHES = 32


class TrainingLoop:
    """Told by the hooks, on the thread that does it.

    Args:
        current: the step that it is put into, or that ends with it.
        iterations: told of what ended a step.
        hindsight: parts a step that turns out to be two.
        updates: say which step an optimizer's is of.
    """

    def __init__(
        self,
        current: CurrentStep,
        iterations: Iterations,
        hindsight: Hindsight,
        updates: Updates,
    ) -> None:
        self.recorder = current.recorder
        self.fetches = current.fetches
        self.optimizers = current.optimizers
        self.current = current
        self._iterations = iterations
        self._hindsight = hindsight
        self._updates = updates
        self._has_joined = False
        self._has_told_of_updates = False  # for which no module was called
        self._bare_updates = 0  # optimizers' steps in a row for which no module was called
        self._bare_batches = 0  # the same of batches that were fetched
        self._called = 0, 0  # steps, and forwards outside any, before the last of these

    def fetch_fails(self, iterator: object, error: BaseException) -> None:
        """A data loader's `iterator` has no batch, or raised."""
        if isinstance(error, StopIteration):
            self.fetches.exhausted(iterator)
            step = self.current.step
            if step is not None and step.thread == threading.get_ident():
                step.data_ended = True

    def fetched(self, iterator: object, start: int) -> None:
        """It has given a batch for which the loop waited since `start`."""
        current = self.current
        spoiled, current.spoiled = current.spoiled, True
        step = current.step
        thread = self.recorder.local.state
        wait = self.fetches.wait(start, thread.code)
        if thread.stack:
            pass
        elif step is None or step.ended:
            self.fetches.keep(iterator, wait)
            if step is None and not current.by_hand:
                self._look_whether_nothing_is_called()
        elif step.thread == threading.get_ident():  # another's is a wait of nobody who trains
            current.log_waits([wait])
        current.spoiled = spoiled

    def optimizer_is_compiled(self) -> None:
        """Dynamo compiles an optimizer's step, which no hook tells of from now on."""
        self._iterations.optimizer_is_compiled(self.current.step)

    def optimizer_starts(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_pre_hook`."""
        if self.optimizers.threads:
            self.current.leave_raised(optimizer)
        step = self.current.step
        self.optimizers.starts(optimizer, None if step is None else step.record.stamps)

    def optimizer_ends(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_post_hook`."""
        current = self.current
        current.ending = True
        step = current.step
        if current.spoiled if step is None else step.record.lost:
            current.end_lost(step)
        elif self.optimizers.holds(optimizer):
            self._optimizer_ended(optimizer)
        current.ending = False

    def _optimizer_ended(self, optimizer: Optimizer) -> None:
        current = self.current
        if self.recorder.tasks.open:
            self.recorder.tasks.settle()
        step = current.step
        if step is not None and step.released:
            step = current.reclaim()
        called = self._updates.called_modules()
        if called:
            self._bare_updates = 0
        step = self._updates.step_of(optimizer, step)
        fetches = self.fetches.take() if self.fetches.last_end else []
        if fetches:
            current.log_waits(fetches)  # this step goes on
        stamps = None if step is None else step.record.stamps
        if not self.optimizers.ends(optimizer, self.recorder, stamps):
            return
        if step is None and not (current.by_hand or called):
            self._say_that_nothing_is_called(optimizer)
        if step is not None:
            self._bare_updates = 0
            self._iterations.optimizer_stepped(optimizer, step)
            current.end = now()
            current.end_by_optimizer(step)

    def _say_that_nothing_is_called(self, optimizer: Optimizer) -> None:
        self._bare_updates += 1
        if self._has_told_of_updates or self._bare_updates != _MANY_BARE_UPDATES:
            return
        if dynamo_is_there():
            self._has_told_of_updates = True
            warn(
                logger,
                "%d steps of %s have ended, and no module was called before them: what runs inside a compiled "
                "function is not seen. Compile modules, not a function around them, or say "
                "`with otel_torch_modules.step(index):` around each step of the loop",
                self._bare_updates,
                class_name(type(optimizer)),
            )

    def _look_whether_nothing_is_called(self) -> None:
        """Take note, where a batch is fetched in no step, whether any thread has called a module since the last."""
        called = self.current.index, self.current.outside.forwards
        self._bare_batches = self._bare_batches + 1 if called == self._called else 1
        self._called = called
        if self._bare_batches == _MANY_BARE_BATCHES and compilation_metrics():
            warn(
                logger,
                "%d batches were fetched, and no module was called with them: what runs inside a compiled "
                "function is not seen. Compile modules, not a function around them, or say "
                "`with otel_torch_modules.step(index):` around each step of the loop",
                self._bare_batches,
            )

    def scaler_ends(self, optimizer: object, ended_before: int) -> None:
        """A gradient scaler is through with `optimizer`: its step has ended since, or was skipped."""
        current = self.current
        current.ending = True
        if self.optimizers.ended == ended_before and not self.optimizers:
            step = current.reclaim()
            if step is not None:
                if self._iterations.was_updated(step, step.root):
                    step.record.optimizer_compiled = True
                elif isinstance(optimizer, Optimizer):  # else it has no hooks: who knows
                    step.record.skipped = True
                current.end = now()
                current.end_by_optimizer(step)
        current.ending = False

    def ranks_join(self) -> None:
        """The block of a ``torch.distributed.algorithms.Join`` ends: ranks may have made different numbers of steps."""
        if not (self._has_joined or self.current.by_hand):
            self._has_joined = True
            warn(
                logger,
                "Ranks that run out of data early, as within DistributedDataParallel.join, count fewer steps: after it "
                "the ranks' steps of one number, which share a trace, may be different ones. "
                "`with otel_torch_modules.step(index):` around each step of the loop says which are the same",
            )

    @property
    def loads_data(self) -> bool:
        """See `Loop` of checkpoints."""
        return self.fetches.at_work > 0 or get_worker_info() is not None

    def takes_apart(self, event: Stretch, start: int, end: int, detail: Any) -> bool:
        """See `Loop` of checkpoints: no step that is open in this thread, no root call, no batch that waits for one."""
        current = self.current
        thread = self.recorder.local.state
        step = current.step
        elsewhere = current.is_of_another_thread
        if thread.stack != [] or self.fetches.any_waits:
            return False
        if not (elsewhere or step is None or step.ended):
            return False
        self.fetches.leave_all()
        record = Record("checkpoint", None, start, clock_offset(), end=end)
        record.log = [event, thread.code, start, end, detail]
        if step is not None:
            current.apart.before = step.record if step.recorded else None
        if not elsewhere:
            if step is not None:
                self._iterations.step_left(step)
            current.hand_over()
            current.end = end
            current.pauses.straight_on = True  # the next step begins after it
        current.apart.send(record)
        return True

    def gradients_dropped(self, step: OpenStep) -> None:
        """``zero_grad`` of an optimizer or a module is called in `step`, which has had a backward and goes on."""
        if self.current.by_hand or self.optimizers or not step.roots:
            return
        if not self._iterations.gives_up(step):
            return
        last = step.roots[-1]
        if last.backwards < step.backwards:
            step.dropped = True  # if this step goes on, its next forward says so
        elif (
            step.recorded
            and not step.record.truncated
            and last.module is step.root_reference
            and self._iterations.outgrows(step)
            and not step.is_yet_to_train
        ):
            step.record.skipped = True
            # The gradients are those of the iteration before.
            self._hindsight.begin_anew(step, len(step.roots) - 1)
