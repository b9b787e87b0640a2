"""Whether a step is over though no optimizer has stepped in it: what the iterations before say of it.

A loop may skip a step, update its parameters by itself, or call its model before it trains. Each looks like a loop that
accumulates, until something is there that an accumulating loop does not do.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from otel_torch_modules._log import warn
from otel_torch_modules._recording.class_attributes import class_name
from otel_torch_modules._recording.loop.live_optimizers import LiveOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.root_forwards import modules_with_gradients
from otel_torch_modules._recording.loop.unseen_updates import UnseenUpdates
from otel_torch_modules._recording.loop.used_gradients import UsedGradients
from otel_torch_modules._recording.modules.parameters import parameters_of
from otel_torch_modules._weak_table import WeakTable

logger = logging.getLogger("otel_torch_modules")

# After so many backward passes of the same root without an optimizer's step, each is a step if no optimizer is there.
_BACKWARDS_WITHOUT_OPTIMIZER = 2

# A step that has seen so many root forwards and no backward was none, unless earlier ones had more.
_FORWARDS_WITHOUT_BACKWARD = 32

# A root is called no more after so many root forwards of others.
_FORWARDS_WITHOUT_ROOT = 32

# Steps whose numbers of micro-batches say how many the next may have.
_STEPS_COMPARED = 8


class Iterations:
    """What the last steps of the loop were like.

    Args:
        optimizers: those that live.
    """

    def __init__(self, optimizers: LiveOptimizers) -> None:
        self._optimizers = optimizers
        self._micro_batches: deque[int] = deque(maxlen=_STEPS_COMPARED)
        self._patience = _FORWARDS_WITHOUT_BACKWARD
        self._undone = False  # a step was, for want of patience
        self._unseen_updates = UnseenUpdates()
        self._used_gradients = UsedGradients()
        self._updated_by_hand = WeakTable[nn.Module, bool]()
        self._has_told_of_updates = False
        self._has_told_of_none = False
        self._is_seen = False  # an optimizer's step has been
        self.looks_closer = False
        """Whether to be told of each backward."""
        self.looks_for_updates = False
        """Whether an optimizer may change parameters and no hook tell: one was compiled, and none is seen."""
        self.by_forward = False
        """Each forward with its backward is a step: a loop without an optimizer of torch's."""

    @property
    def usual_micro_batches(self) -> int:
        """The most that the last steps had; more than any can have where none has ended."""
        return max(self._micro_batches, default=sys.maxsize)

    def step_left(self, step: OpenStep) -> None:
        """Take note of a step that another one follows."""
        if step.stepped:
            self._micro_batches.append(step.record.micro_batches)

    def optimizer_stepped(self, optimizer: Optimizer, step: OpenStep) -> None:
        """Take note that `optimizer` has stepped in `step`."""
        root = step.root_reference
        known = self._optimizers
        if known.root is not root or known.optimizer is None or known.optimizer() is not optimizer:
            known.stepped(optimizer, root)
        self._used_gradients.remember(optimizer)
        self._is_seen = True
        self.looks_for_updates = False
        self.looks_closer = self._undone
        self.by_forward = False

    def optimizer_is_compiled(self, step: OpenStep | None) -> None:
        """Take note that Dynamo compiles an optimizer's step, now, in `step`: of such steps no hook is told."""
        if self._is_seen or self.looks_for_updates:
            return  # what changes parameters else is the program itself, as in sharpness-aware minimization
        if step is not None:
            self._remember_parameters(step)
        self.looks_for_updates = self.looks_closer = True

    def backward_ended(self, step: OpenStep) -> None:
        """Take note of a backward in `step`; one that comes to what was before it says that it opened too late."""
        if self.looks_for_updates:
            self._remember_parameters(step)
        if self._undone and step.reached_what_was_before:
            self._patience = sys.maxsize

    def left_out_root_opens(self, step: OpenStep) -> None:
        """Take note of a forward of the root of `step`, which is not recorded: else its backward is seen.

        To be told where `looks_for_updates`.
        """
        self._remember_parameters(step)

    def _remember_parameters(self, step: OpenStep) -> None:
        self._unseen_updates.remember(modules_with_gradients(step.roots))

    def outgrows(self, step: OpenStep) -> bool:
        """Return whether `step` has more micro-batches than the last ones had."""
        return step.record.micro_batches > self.usual_micro_batches

    def is_left(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether the root of `step` is called no more: it is gone, or others are called again and again.

        The latter is asked only where no optimizer says when a step is over.

        Args:
            step: the open one.
            module: another than the root, which is called now.
        """
        if step.recorded and step.roots and step.root is None:
            return True
        if self._is_seen:
            return False
        if step.recorded and step.backwards:
            left = step.backwards_without_root >= _BACKWARDS_WITHOUT_OPTIMIZER
            return left and not self._may_be_awaited(step, module)
        return step.others >= _FORWARDS_WITHOUT_ROOT and not self._optimizers.live()

    def _may_be_awaited(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether an optimizer may end `step` yet, whatever of it that trains."""
        return self._optimizers.may_step(_called(step, module))

    def was_none(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether `step` was none: so many forwards of its root, and no backward.

        Args:
            step: the open one.
            module: its root, which is called once more, or what may take its place.
        """
        is_root = step.root is module
        forwards = step.record.micro_batches if is_root else step.others
        none = (
            step.recorded
            and not step.backwards
            and forwards >= max(self._patience, *self._micro_batches, 0)
            and (is_root or not self._optimizers.live())
        )
        if none:
            self._undone = self.looks_closer = True
        return none

    def gives_up(self, step: OpenStep) -> bool:
        """Return whether the gradients that `step` drops now were for nothing.

        An attack or a Jacobian leaves none, and who changes parameters by those that there are has used them.
        """
        had = step.gradients
        step.gradients = False
        return had and not self._used_gradients.changed()

    def skips(self, step: OpenStep) -> bool:
        """Return whether `step`, whose root is called once more, was skipped: its gradients were dropped."""
        whole = step.data_ended or step.record.micro_batches >= self.usual_micro_batches
        return step.dropped and whole and not step.is_yet_to_train

    def was_updated(self, step: OpenStep, module: nn.Module | None) -> bool:
        """Return whether an optimizer has stepped since a backward of `step`, whose root is `module`, and no hook was
        told: it runs inside a compiled function.
        """
        if not (self.looks_for_updates and _backwards(step) and self._unseen_updates.updated()):
            return False
        if module is None or self._updated_by_hand.get(module):
            return False
        held = self._optimizers.held(_called(step, module))
        if held is None:
            self._updated_by_hand.put(module, True)  # to look for optimizers takes long
            return False
        if not self._has_told_of_updates:
            self._has_told_of_updates = True
            warn(
                logger,
                "The parameters of %s are updated, and no optimizer is seen to step: that runs inside a compiled "
                "function. Its time is in `between`; where steps are not set by hand, one ends where the next begins",
                class_name(type(held)),
            )
        return True

    def ends_by_itself(self, step: OpenStep) -> bool:
        """Return whether `step`, whose root is called once more, is over: each forward with its backward is."""
        return self.by_forward and _backwards(step) > 0

    def has_no_optimizer(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether it shows now that nothing will end `step`.

        Args:
            step: the open one.
            module: its root, which is called once more, or what may take its place.
        """
        backwards = _backwards(step)
        if self.by_forward or backwards < _BACKWARDS_WITHOUT_OPTIMIZER:
            return False
        if step.root_was_first and step.root is module:
            ends = self._optimizers.held(_called(step, module)) is not None
        else:  # whom an optimizer trains, if there is one, is less sure
            ends = self._may_be_awaited(step, module)
        if ends:
            return False
        self.by_forward = True
        # An inner loop whose outer one has an optimizer shows it each time.
        if not self._has_told_of_none:
            self._has_told_of_none = True
            warn(
                logger,
                "%d backward passes of %s have ended without a step of an optimizer, and no torch.optim optimizer "
                "holds its parameters: each forward with its backward is taken for a step. "
                "`with otel_torch_modules.step(index):` around each step of the loop says where it is",
                backwards,
                _named(step, module),
            )
        return True


def _called(step: OpenStep, module: nn.Module) -> Iterator[nn.Module]:
    """Yield `module`, which is called now, and then what else was called in `step`."""
    yield module
    yield from modules_with_gradients(step.roots)


def _named(step: OpenStep, module: nn.Module) -> str:
    """Return the class of the first that has parameters, of what is called in `step`, and `module` now."""
    having = (
        one
        for one in modules_with_gradients(step.roots)
        if next(parameters_of(one), None) is not None
    )
    return class_name(type(next(having, module)))


def _backwards(step: OpenStep) -> int:
    # The backward passes of a step that is left out are not seen.
    return step.backwards if step.recorded else step.record.micro_batches
