"""Where a record begins and ends.

A step opens at the first root forward made in training (``module.training`` and grad mode on) and ends at the last
``optimizer.step`` before the next one opens, or with its iteration where that is skipped; :meth:`Steps.step` sets both
by hand. A root forward outside a step (evaluation, inference) is a record of its own.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import chain
from time import perf_counter_ns as now
from time import time_ns
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import get_worker_info

from otel_torch_modules._recording.cost.spending import Spending, spends
from otel_torch_modules._recording.interruption import is_interruption
from otel_torch_modules._recording.loop.accumulating import Accumulating
from otel_torch_modules._recording.loop.evaluations import Evaluations, Forward
from otel_torch_modules._recording.loop.fetches import Fetches, Wait
from otel_torch_modules._recording.loop.open_optimizers import OpenOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep, Root
from otel_torch_modules._recording.loop.running import waits_in_a_module
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private import current_number
from otel_torch_modules._records import OPTIMIZED, WIDTH, Record, StepContext
from otel_torch_modules.config import Config

logger = logging.getLogger("otel_torch_modules")

# After so many backward passes of the same root without an optimizer's step, each is a step if no optimizer is there.
_BACKWARDS_WITHOUT_OPTIMIZER = 2

# A step that has seen so many root forwards and no backward was none, unless earlier ones had more.
_FORWARDS_WITHOUT_BACKWARD = 32

# A loop that does nothing that is seen for longer (ns), and than two of its iterations take, has paused.
_PAUSE = 500_000_000

# Steps whose numbers of micro-batches say how many the next may have.
_STEPS_COMPARED = 8

# A step that has ended leaves for the worker when nothing has happened for so long (ns).
_IDLE = 300_000_000


def _none() -> None:
    """Stand in for a weak reference to nothing."""


class _StepByHand(AbstractContextManager[None]):
    """Not a generator: that costs as much as the opening of a step that is left out."""

    def __init__(self, steps: Steps, index: int | None) -> None:
        self._steps = steps
        self._index = index

    def __enter__(self) -> None:
        self._steps.open_by_hand(self._index)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._steps.close_by_hand(failed=error is not None)


class Steps:
    """Opens and closes records. All methods but `hand_over_idle` run on the training thread.

    Args:
        config: which phases and which steps are recorded.
        recorder: records into what is opened here.
        context: makes a record the program's current span.
        submit: takes a finished record; must not block.
        losses: told of what an error of ours has cost.
        spending: decides how deep records go; None where there is no budget and all are full.
    """

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        context: StepContext,
        submit: Callable[[Record], object],
        losses: Losses,
        spending: Spending | None = None,
    ) -> None:
        self._config = config
        self._context = context
        self._submit = submit
        self._losses = losses
        self.fetches = Fetches()
        self._evaluations = Evaluations(
            config, recorder, context, submit, losses, spending, self.fetches
        )
        self.optimizers = OpenOptimizers()
        self._accumulating = Accumulating()
        self.spending = spending
        if spending is not None:
            spending.watch(self)
        self.recorder = recorder
        recorder.boundary = self
        self._index = 0  # of the next step
        self._step: OpenStep | None = None
        self._end = 0  # of what happened last in the open step
        self._opening = threading.RLock()
        self._micro_batches: deque[int] = deque(maxlen=_STEPS_COMPARED)
        self._by_forward = False  # a loop without torch.optim
        self._by_hand = False
        self._straight_on = False  # there was no forward since an optimizer's step ended
        self._ended_before = 0  # the step before the last
        self._has_modules = True  # the last step, or it would have
        self._spoiled = False  # what belongs to the step that opens next is lost
        self._ending = False  # what happens now may end the step
        self._unsure: weakref.ref[nn.Module] | None = None  # one that may be of them
        self._patience = _FORWARDS_WITHOUT_BACKWARD
        self._undone = False  # a step was, for want of patience
        # Modules that backward came to though they were in no training mode, by id.
        self._trained: dict[int, weakref.ref[nn.Module]] = {}
        # An ended step lies here until the loop or the worker pops it; who does owns it.
        self._ended_steps: deque[Record] = deque()

    # Root calls and backward passes, from the recorder.

    @spends
    def root_opens(self, module: nn.Module) -> bool:
        """See :class:`Boundary`."""
        self._evaluations.forget()
        if self.fetches.at_work:
            return self._dataset_root()
        if not self._config.data_workers and get_worker_info() is not None:
            return False
        self._leave_raised(None)
        training = (
            torch.is_grad_enabled()
            and (module.training or self._trained.get(id(module), _none)() is module)
            and get_worker_info() is None
        )
        step = self._step
        if training and not (self._by_hand and step is None):
            return self._training_root(module)
        if step is not None and not step.ended and self._is_of(step, module):
            step.root_opens(module)
            return step.recorded
        if not self._trains_elsewhere:
            self._straight_on = False
            self._unsure = weakref.ref(module) if torch.is_grad_enabled() else None
        return self._evaluations.root_opens(module, self._last_step)

    @spends
    def root_closes(self, failed: bool) -> None:
        """See :class:`Boundary`."""
        if self.fetches.at_work:
            self.recorder.thread.own = None
            return
        if self._evaluations.root_closes(failed):
            return
        if self._step is not None:
            self._end = now()
            if failed:
                self._break_off(self._step)

    @spends
    def task_opens(self) -> None:
        """See :class:`Boundary`."""
        thread = self.recorder.thread
        if thread.own is not None:
            if self.fetches.at_work or self._trains_elsewhere:
                return  # it is no step's
            forwards = self._reached_forwards()
            if forwards:
                self._open_with(forwards)
            elif thread.stack:
                return
            thread.own = None
        if self._reclaim() is not None:
            self.optimizers.log(self.recorder)

    @spends
    def task_closes(self, time: int, failed: bool) -> None:
        """See :class:`Boundary`."""
        step = self._step
        if step is None:
            return
        self._end = max(self._end, time)
        step.backward_ended()
        if self._undone and step.reached_what_was_before:
            self._patience = sys.maxsize
        if failed:
            self._break_off(step)
        elif step.ended or self._by_forward:
            self._end_step(step)

    def lose(self, error: BaseException, where: str) -> None:
        """See :class:`Boundary`."""
        lost: bool | None = True
        try:
            lost = self._evaluations.lose()
            if lost is None:
                lost = self._lose_step()
            self._evaluations.end()
        except Exception as another:
            if is_interruption(another):
                raise
            self._losses.say(another, "A record could not be dropped in full")
        finally:
            if is_interruption(error):  # it leaves the loop
                self._spoiled = False
            if lost is not False:
                self._losses.add(error, where)

    # The loop's own doings.

    def fetch_fails(self, iterator: object, error: BaseException) -> None:
        """A data loader's `iterator` has no batch, or raised."""
        if isinstance(error, StopIteration):
            self.fetches.exhausted(iterator)

    @spends
    def fetched(self, iterator: object, start: int) -> None:
        """It has given a batch for which the loop waited since `start`."""
        spoiled, self._spoiled = self._spoiled, True
        step = self._step
        thread = self.recorder.thread
        wait = self.fetches.wait(start, thread.code)
        if thread.stack:
            pass
        elif step is None or step.ended:
            self.fetches.keep(iterator, wait)
        elif step.thread == threading.get_ident():  # another's is a wait of nobody who trains
            self._log_waits([wait])
        self._spoiled = spoiled

    @spends
    def optimizer_starts(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_pre_hook`."""
        self._leave_raised(optimizer)
        self.optimizers.starts(optimizer)

    @spends
    def optimizer_ends(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_post_hook`."""
        self._ending = True
        step = self._step
        if self._spoiled if step is None else step.record.lost:
            self._end_lost(step)
        elif self.optimizers.holds(optimizer):
            self._optimizer_ended(optimizer)
        self._ending = False

    @spends
    def scaler_ends(self, optimizer: object, ended_before: int) -> None:
        """A gradient scaler is through with `optimizer`: its step has ended since, or was skipped."""
        self._ending = True
        if self.optimizers.ended == ended_before and not self.optimizers:
            step = self._reclaim()
            if step is not None:
                if isinstance(optimizer, Optimizer):  # else it has no hooks: who knows
                    step.record.skipped = True
                self._end = now()
                self._end_by_optimizer(step)
        self._ending = False

    @spends
    def gradients_dropped(self) -> None:
        """``zero_grad`` of an optimizer or a module is called."""
        step = self._step
        if step is None or step.ended or not step.backwards or self._by_hand or self.optimizers:
            return
        if not step.roots:
            return
        last = step.roots[-1]
        if last.backwards < step.backwards:
            step.dropped = True  # if this step goes on, its next forward says so
        elif (
            step.recorded
            and not step.record.truncated
            and last.module() is step.root
            and step.record.micro_batches > self._usual_micro_batches
        ):
            self._begin_anew(step)  # they are those of the iteration before

    def step(self, index: int | None) -> AbstractContextManager[None]:
        """Make what happens inside one step; from now on no step is found automatically."""
        return _StepByHand(self, index)

    @spends
    def open_by_hand(self, index: int | None) -> None:
        """Begin the step of `step`."""
        if self._losses.given_up:
            return
        try:
            self._by_hand = True
            self._open(now(), index)
        except BaseException:
            if self.recorder.fail("where a step begins that is set by hand"):
                raise
            self._step = OpenStep(Record("step", index, now(), 0, lost=True), recorded=False)

    @spends
    def close_by_hand(self, failed: bool) -> None:
        """End it."""
        try:
            if self._step is not None:
                self._step.record.failed = self._step.record.failed or failed
            self._end = now()
            self._finish_step()
        except BaseException:
            if self.recorder.fail("where a step ends that is set by hand"):
                raise

    def finish(self) -> None:
        """Send off what there is, whatever state it is in."""
        self._evaluations.release()
        self.recorder.settle()
        step = self._step
        if (
            step is not None
            and step.recorded
            and not (step.ended or step.backwards or self._by_hand or self.recorder.runs_backward)
            and step.record.micro_batches > self._usual_micro_batches
        ):
            self._undo(step)
        self._finish_step()

    def _finish_step(self) -> None:
        self.recorder.settle()
        step = self._reclaim()
        if step is not None:
            self._context.detach(step.record)
            if self.recorder.record is step.record:
                self.recorder.write_to(None)
                self.recorder.forget_tasks()
            self._leave_early_roots(step)
            step.record.end = self._end
            self._step = None  # from here on it is another's
            self._send(step.record)

    def hand_over_idle(self) -> None:
        """Send off what ended a while ago. Runs on the worker thread."""
        self._evaluations.release_idle()
        if not self.recorder.runs_backward and now() - self._end > _IDLE:
            with suppress(IndexError):
                record = self._ended_steps.pop()
                record.end = self._end
                self._send(record)

    def abandon(self) -> None:
        """Drop what is open, step or evaluation: its log belongs to another process now, which alone has trained."""
        self._evaluations.abandon()
        self._ended_steps.clear()
        self._step = None
        self._index = 0
        self._opening = threading.RLock()  # another thread's hands may have been on it
        self.recorder.write_to(None)
        self.recorder.forget_tasks()

    # Below: the state machine.

    @property
    def _last_step(self) -> int | None:
        """The number of the last step; None where there has been none."""
        return self._index - 1 if self._index > 0 else None

    @property
    def _trains_elsewhere(self) -> bool:
        step = self._step
        return step is not None and step.thread != threading.get_ident()

    def _is_of(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether a root forward that is not training's is of `step`: a teacher's, a metric's, a replica's."""
        return (
            step.thread == threading.get_ident()
            or getattr(module, "_is_replica", False)
            or waits_in_a_module(step.thread)
        )

    def _dataset_root(self) -> bool:
        """Return whether the root call that a dataset makes is recorded."""
        step = self._step
        if step is None or step.ended:
            recorded = self._has_modules and self._config.schedule.records(self._index)
        else:
            recorded = step.recorded and not step.record.phases_only
        calls = self.fetches.open_calls() if recorded and self.spending is None else None
        self.recorder.thread.own = calls
        return calls is not None

    def _training_root(self, module: nn.Module) -> bool:
        with self._opening:
            step = self._step
            if step is not None and step.root is module and not (step.ended or self._by_hand):
                step.ended = self._is_over(step, module)
            if step is None or step is not self._step or (step.ended and not self._by_hand):
                leading = self._evaluations.leading_to(module, self.fetches.last_end)
                step = self._open(self.optimizers.start or now(), None)
                self._put_before(step, leading)
            record = step.record
            step.root_opens(module)
            if step.root is module:
                record.micro_batches += 1
        self.optimizers.log(self.recorder)
        if step.recorded:
            self._context.attach(record)
        return step.recorded

    def _optimizer_ended(self, optimizer: Optimizer) -> None:
        self.recorder.settle()
        step = self._reclaim()
        fetches = self.fetches.take()
        if step is not None:
            self._log_waits(fetches)  # this step goes on
            self.optimizers.log(self.recorder)
            self._log(OPTIMIZED, None)
        self.optimizers.ends(optimizer)
        if self._unsure is not None and not self.optimizers:
            self._index += 1  # it was training's, of a step that is not recorded
            self._remember_as_trained(self._unsure)
        if step is not None and not self.optimizers:
            self._accumulating.stepped(optimizer, step.root)
            self._by_forward = False
            self._end = now()
            self._end_by_optimizer(step)

    def _is_over(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether `step`, in which no optimizer stepped, has ended before this forward of its root."""
        record = step.record
        if step.raised:
            self._break_off(step)
            return True
        if (
            step.recorded
            and not step.backwards
            and record.micro_batches >= max(self._patience, *self._micro_batches, 0)
        ):
            self._undo(step)
            return True
        if module.training and not step.training and step.backwards:
            return True  # gradients were asked for in an evaluation
        if self.optimizers:  # a closure
            return False
        if step.dropped and record.micro_batches >= self._usual_micro_batches:
            record.skipped = True
            return True
        # The backward passes of a step that is left out are not seen.
        backwards = step.backwards if step.recorded else record.micro_batches
        if (
            not self._by_forward
            and backwards >= _BACKWARDS_WITHOUT_OPTIMIZER
            and not self._accumulating.holds(module)
        ):
            self._by_forward = True
            logger.warning(
                "%d backward passes of %s have ended without a step of an optimizer, and no torch.optim optimizer "
                "holds its parameters: from now on each forward with its backward is a step. "
                "`with otel_torch_modules.step(index):` around each step of the loop says where it is",
                backwards,
                type(module).__name__,
            )
        return self._by_forward and backwards > 0

    @property
    def _usual_micro_batches(self) -> int:
        return max(self._micro_batches, default=sys.maxsize)

    def _open(self, start: int, index: int | None) -> OpenStep:
        if self._step is not None and self._step.stepped:
            self._micro_batches.append(self._step.record.micro_batches)
        spoiled, self._spoiled = self._spoiled, True
        ended = self._end if self._went_straight_on(start) else start
        self._unsure = None
        fetches = self.fetches.take()
        for hand_over in (self._finish_step, self._evaluations.end):
            try:
                hand_over()
            except BaseException:  # what that costs is not this step
                if self.recorder.fail("where a record is handed over"):
                    raise
        if self._by_hand:
            fetches = []
        elif fetches:
            start = min(start, fetches[0].start)
        # After the last of too many errors nothing would ever end it.
        step = self._make(start, index, lost=spoiled or self._losses.given_up)
        self._end = start
        record = step.record
        if not (fetches or self._by_hand or record.parent):
            record.start = ended
        self.recorder.write_to(record if step.recorded else None)
        if step.recorded:
            self._context.attach(record)
            self._log_waits(fetches)
        return step

    def _open_with(self, forwards: list[Forward]) -> None:
        """Begin a step with forwards that a backward has come to, though nobody expected it to."""
        step = self._open(forwards[0].start, None)
        place = len(step.record.log)
        self._put_before(step, forwards)
        for forward in forwards:
            step.roots.append(Root(forward.module, forward.start, place, 0))
            place += len(forward.log)
            module = forward.module()
            if module is not None and module is step.root:
                step.record.micro_batches += 1
                step.training = module.training
                self._remember_as_trained(forward.module)

    def _reached_forwards(self) -> list[Forward]:
        if self._by_hand or not (self._step is None or self._step.ended):
            return []
        return self._evaluations.reached_by(current_number())

    def _remember_as_trained(self, module: weakref.ref[nn.Module]) -> None:
        known = {id(one()): one for one in (*self._trained.values(), module)}
        known.pop(id(None), None)
        self._trained = known
        self._unsure = None

    def _put_before(self, step: OpenStep, forwards: list[Forward]) -> None:
        """Let `step` begin with forwards that were outside it, behind the waits for data that it begins with."""
        if not forwards:
            return
        record = step.record
        record.start = min(record.start, forwards[0].start)
        *closed, last = [forward.log for forward in forwards]
        last[:0] = [*record.log, *chain.from_iterable(closed)]
        record.log = last  # the list that a call which is open goes on writing to
        if step.recorded:
            self.recorder.write_to(record)

    def _undo(self, step: OpenStep) -> None:
        """Take back that a step was opened: so many forwards, and no backward."""
        self._step = None
        self._index -= 1
        self._undone = True
        record = step.record
        self._context.detach(record)
        self.recorder.write_to(None)
        ends = [step.place_of(number) for number in range(1, len(step.roots))]
        self._evaluations.adopt(
            [
                Forward(root.module, root.start, record.log[root.place : end])
                for root, end in zip(step.roots, [*ends, len(record.log)], strict=True)
            ],
            self._last_step,
        )

    def _leave_early_roots(self, step: OpenStep) -> None:
        """Give root forwards back that turned out to be none of `step`."""
        early = step.early_roots()
        if not early:
            return
        record = step.record
        places = [step.place_of(number) for number in range(early + 1)]
        self._evaluations.adopt(
            [
                Forward(root.module, root.start, record.log[root.place : end])
                for root, end in zip(step.roots, places[1:], strict=False)
            ],
            self._index - 2 if self._index > 1 else None,
        )
        record.start = step.start_at(places[-1])
        del record.log[: places[-1]]
        trained = step.roots[early:]
        record.micro_batches = sum(root.module() is trained[0].module() for root in trained)
        step.roots = trained
        step.first_reached = 0

    def _went_straight_on(self, start: int) -> bool:
        """Return whether nothing but the loop's own code lies between the end of the last step and `start`."""
        iteration, self._ended_before = self._end - self._ended_before, self._end
        straight, self._straight_on = self._straight_on, False
        return straight and 0 <= start - self._end <= max(_PAUSE, 2 * iteration)

    def _make(self, start: int, index: int | None, *, lost: bool) -> OpenStep:
        if index is None:
            index = self._index
        self._index = index + 1
        record = Record("step", index, start, time_ns() - now(), lost=lost)
        step = self._step = OpenStep(record, recorded=False)
        self._spoiled = False
        if self.spending is not None:
            self.spending.step_opens()
        step.recorded = (
            not lost
            and "train" in self._config.phases
            and self._config.schedule.records(index)
            and self._context.open(record)
        )
        if step.recorded and self.spending is not None:
            self.spending.set_depth_of_step(record)
        self._has_modules = not record.phases_only
        return step

    def _begin_anew(self, step: OpenStep) -> None:
        """Let a step begin with the last root forward of `step`, which was skipped and ended before it."""
        place = step.place_of(len(step.roots) - 1)
        start = step.start_at(place)
        last = step.roots.pop()
        record, log = step.record, step.record.log
        record.skipped = True
        record.micro_batches -= 1
        record.log = log[:place]
        record.end = record.log[3 - WIDTH]
        del log[:place]  # the list that open calls go on writing to
        self._context.detach(record)
        self._step = None  # from here on it is another's
        self._send(record)
        step = self._make(start, None, lost=False)
        step.record.log = log
        step.record.micro_batches = 1
        step.roots.append(Root(last.module, last.start, last.place - place, 0))
        self.recorder.write_to(step.record if step.recorded else None)
        if step.recorded:
            self._context.attach(step.record)

    def _leave_raised(self, starting: Optimizer | None) -> None:
        if self.optimizers and self.optimizers.leave_raised(sys._getframe(1), starting):
            step = self._reclaim()
            if step is not None:
                step.raised = True  # unless an optimizer steps in it after all, it is over

    def _lose_step(self) -> bool:
        """Drop the open step; return whether it was not lost before.

        It stays open until it would have ended: half a step is worse than none.
        """
        step = self._step
        if step is not None and step.ended:  # it is whole, unless it was lost before
            try:
                self._finish_step()
            finally:
                self._ended_steps.clear()
                step = self._step = None
        known = False
        if step is not None:
            self._spoiled = step.recorded = False
            known, step.record.lost = step.record.lost, True
            step.record.log = []
        if self._ending:  # there is no better moment
            self._ending = False
            self._end_lost(step)
        if step is not None:
            self._context.detach(step.record)
        return not known

    def _end_lost(self, step: OpenStep | None) -> None:
        self._spoiled = False
        self.fetches.drop()
        self.optimizers.clear()
        self.fetches.take()
        if step is not None:
            step.ended = not self._by_hand

    def _break_off(self, step: OpenStep) -> None:
        step.record.failed = True
        self._end = max(self._end, self.optimizers.log_raised(self.recorder))
        self._end_step(step)

    def _end_by_optimizer(self, step: OpenStep) -> None:
        self._straight_on = True
        step.stepped = True
        step.dropped = step.raised = False
        self._end_step(step)

    def _end_step(self, step: OpenStep) -> None:
        if not self._by_hand:
            step.ended = True
            self._context.detach(step.record)
            if not step.released:
                self._leave_early_roots(step)
                step.released = True
                self._ended_steps.append(step.record)

    def _reclaim(self) -> OpenStep | None:
        """Return the step that what happens now can be put into, taken back if it had ended; None if there is none."""
        step = self._step
        if step is not None and step.released:
            step.released = False
            try:
                self._ended_steps.pop()
            except IndexError:  # the worker has it
                self._step = None
                self.recorder.write_to(None)
        return self._step

    def _send(self, record: Record) -> None:
        if record.log and not record.lost:
            if self.spending is not None:
                self.spending.step_closes(record)
            self._submit(record)

    def _log_waits(self, waits: list[Wait]) -> None:
        record = self.recorder.record
        if record is not None:
            for wait in waits:
                record.log.extend(wait.events(record))

    def _log(self, tag: str, value: Any) -> None:
        log = self.recorder.log
        if log is not None:
            log.extend((tag, self.recorder.thread.code, value, now(), None))
