"""Where a record begins and ends.

A step opens at the first root forward made in training (``module.training`` and grad mode on) and ends at the last
``optimizer.step`` before the next one opens; :meth:`Steps.step` sets both by hand. A root forward outside a step
(evaluation, inference) is a record of its own.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from time import perf_counter_ns as now
from time import time_ns
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from otel_torch_modules._recording.evaluations import Evaluations
from otel_torch_modules._recording.fetches import Fetches
from otel_torch_modules._recording.open_optimizers import OpenOptimizers
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.spending import Spending, spends
from otel_torch_modules._records import DATA, OPTIMIZED, Record, StepContext
from otel_torch_modules.config import Config

logger = logging.getLogger("otel_torch_modules")

# After so many calls of the same root without an optimizer's step, each with its backward is a step.
FORWARDS_WITHOUT_OPTIMIZER = 32

# A step that has ended leaves for the worker when nothing has happened for so long (ns).
_IDLE = 300_000_000


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
        give_up: takes everything down after an error of ours.
        spending: decides how deep records go; None where there is no budget and all are full.
    """

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        context: StepContext,
        submit: Callable[[Record], object],
        give_up: Callable[[], None],
        spending: Spending | None = None,
    ) -> None:
        self._config = config
        self._context = context
        self._submit = submit
        self._give_up = give_up
        self._evaluations = Evaluations(config, recorder, context, submit, spending)
        self._fetches = Fetches()
        self._optimizers = OpenOptimizers()
        self.spending = spending
        if spending is not None:
            spending.watch(self)
        self.recorder = recorder
        recorder.boundary = self
        self._index = 0  # of the next step
        self._step: Record | None = None  # the open step, recorded or left out
        self._recorded = False  # whether it is recorded
        self._root = 0  # id of the module whose forward opened it
        self._ended = False  # the next root forward in training opens another step
        self._end = 0  # of what happened last in the open step
        self._released = False  # it has been put where the worker may take it
        self._optimizer_seen = False
        self._by_forward = False  # a loop without torch.optim
        self._by_hand = False
        # An ended step lies here until the loop or the worker pops it; who does owns it.
        self._ended_steps: deque[Record] = deque()

    # Root calls and backward passes, from the recorder.

    @spends
    def root_opens(self, module: nn.Module) -> bool:
        """See :class:`Boundary`."""
        training = module.training and torch.is_grad_enabled() and not self._fetches.loading
        if training and not (self._by_hand and self._step is None):
            return self._training_root(module)
        if self._step is not None and not self._ended:  # a teacher, a metric: part of the step
            return self._recorded
        self._fetches.drop()
        return self._evaluations.root_opens(module, max(self._index - 1, 0))

    @spends
    def root_closes(self, failed: bool) -> None:
        """See :class:`Boundary`."""
        if self._evaluations.root_closes(failed):
            return
        if self._step is not None:
            self._end = now()
            if failed:
                self._break_off(self._step)

    @spends
    def task_opens(self) -> None:
        """See :class:`Boundary`."""
        if self._reclaim():
            self._optimizers.log(self.recorder)

    @spends
    def task_closes(self, failed: bool) -> None:
        """See :class:`Boundary`."""
        step = self._step
        if step is None:
            return
        self._end = now()
        if failed:
            self._break_off(step)
        elif self._ended or self._by_forward:
            self._end_step(step)

    def recorder_failed(self) -> None:
        """See :class:`Boundary`."""
        self._give_up()
        self._evaluations.drop()
        if self._step is not None and not self._released:
            self._step.log.clear()  # half a step is worse than none
        self.finish()

    # The loop's own doings.

    def fetch_starts(self) -> None:
        """A data loader's iterator has been asked for a batch."""
        self._fetches.start()

    def fetch_fails(self) -> None:
        """It has none, or raised."""
        self._fetches.end()

    @spends
    def fetched(self, iterator: object, start: int) -> None:
        """It has given a batch for which the loop waited since `start`."""
        self._fetches.end()
        if self.recorder.thread.stack:
            return
        if self._step is not None and not self._ended:
            self._log(DATA, start)
        else:
            self._fetches.keep(iterator, start)

    @spends
    def optimizer_starts(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_pre_hook`."""
        self._optimizers.starts(optimizer)

    @spends
    def optimizer_ends(self, optimizer: Optimizer, *_: Any) -> None:
        """Hook for `register_optimizer_step_post_hook`."""
        if not self._optimizers.holds(optimizer):
            return
        self._fetches.drop()
        if self._reclaim():
            self._optimizers.log(self.recorder)
            self._log(OPTIMIZED, None)
        self._optimizers.ends(optimizer)
        if self._step is not None and not self._optimizers:
            self._optimizer_seen = True
            self._by_forward = False
            self._end = now()
            self._end_step(self._step)

    def step(self, index: int | None) -> AbstractContextManager[None]:
        """Make what happens inside one step; from now on no step is found automatically."""
        return _StepByHand(self, index)

    @spends
    def open_by_hand(self, index: int | None) -> None:
        """Begin the step of `step`."""
        if self.recorder.failed:
            return
        try:
            self.finish()
            self._by_hand = True
            self._open(now(), index)
        except Exception:
            self.recorder.fail("where a step begins that is set by hand")

    @spends
    def close_by_hand(self, failed: bool) -> None:
        """End it."""
        try:
            if self._step is not None:
                self._step.failed = self._step.failed or failed
            self._end = now()
            self.finish()
        except Exception:
            self.recorder.fail("where a step ends that is set by hand")

    def finish(self) -> None:
        """Send off the open step, whatever state it is in."""
        step = self._step
        if step is not None and self._reclaim():
            self._step = None
            self._context.detach(step)
            if self.recorder.record is step:
                self.recorder.write_to(None)
            self._send(step)

    def hand_over_idle(self) -> None:
        """Send off a step that ended a while ago. Runs on the worker thread."""
        if not self.recorder.tasks and now() - self._end > _IDLE:
            with suppress(IndexError):
                self._send(self._ended_steps.pop())

    def abandon(self) -> None:
        """Drop what is open, step or evaluation: its log belongs to another process now."""
        self._evaluations.abandon()
        self._ended_steps.clear()
        self._released = False
        self._step = None
        self.recorder.write_to(None)
        self.recorder.tasks.clear()

    # Below: the state machine.

    def _training_root(self, module: nn.Module) -> bool:
        step = self._step
        again = step is not None and id(module) == self._root
        if step is not None and again and not self._optimizer_seen and not self._by_hand:
            if step.micro_batches >= FORWARDS_WITHOUT_OPTIMIZER:
                self._count_by_forward()
            if self._by_forward:
                self._ended = True
        if step is None or (self._ended and not self._by_hand):
            step = self._open(self._optimizers.start or now(), None)
        if self._root == 0:
            self._root = id(module)
        if id(module) == self._root:
            step.micro_batches += 1
        self._optimizers.log(self.recorder)
        if self._recorded:
            self._context.attach(step)
        return self._recorded

    def _count_by_forward(self) -> None:
        self._by_forward = True
        logger.info(
            "No torch.optim optimizer has stepped in %d root forwards: from now on each root "
            "forward with its backward is a step; `with otel_torch_modules.step(index):` "
            "says it exactly",
            FORWARDS_WITHOUT_OPTIMIZER,
        )

    def _open(self, start: int, index: int | None) -> Record:
        self.finish()
        fetches = self._fetches.take()
        if self._by_hand:
            fetches = []
        elif fetches:
            start = min(start, fetches[0][0])
        if index is None:
            index = self._index
        self._index = index + 1
        step = Record("step", index, start, time_ns() - now())
        self._step = step
        self._end = start
        self._root = 0
        self._ended = False
        if self.spending is not None:
            self.spending.step_opens()
        self._recorded = (
            "train" in self._config.phases
            and self._config.schedule.records(index)
            and self._context.open(step)
        )
        if self._recorded and self.spending is not None:
            self.spending.set_depth_of_step(step)
        self.recorder.write_to(step if self._recorded else None)
        if self._recorded:
            self._context.attach(step)
            for begun, ended in fetches:
                step.log.extend((DATA, self.recorder.thread.code, begun, ended, None))
        return step

    def _break_off(self, step: Record) -> None:
        step.failed = True
        self._optimizers.clear()  # an exception in a closure has left them
        self._end_step(step)

    def _end_step(self, step: Record) -> None:
        if not self._by_hand:
            self._ended = True
            self._context.detach(step)
            if not self._released:
                self._released = True
                self._ended_steps.append(step)

    def _reclaim(self) -> bool:
        """Return whether there is a step, taken back if it had ended, that what happens now can be put into."""
        if self._released:
            self._released = False
            try:
                self._ended_steps.pop()
            except IndexError:  # the worker has it
                self._step = None
                self.recorder.write_to(None)
        return self._step is not None

    def _send(self, step: Record) -> None:
        step.end = self._end
        if step.log:
            if self.spending is not None:
                self.spending.step_closes(step)
            self._submit(step)

    def _log(self, tag: str, value: Any) -> None:
        log = self.recorder.log
        if log is not None:
            log.extend((tag, self.recorder.thread.code, value, now(), None))
