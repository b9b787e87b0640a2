"""The step that is open, and what has happened in it so far."""

from __future__ import annotations

import threading
import weakref
from time import perf_counter_ns as now
from typing import Any

import torch
from torch import nn

from otel_torch_modules._events import MARK, TASK_END, WIDTH, begin_of
from otel_torch_modules._recording.loop.evaluation import Forward
from otel_torch_modules._recording.loop.fetches import (
    Wait,
    first_wait_before,
    holds_wait,
    waits_from,
)
from otel_torch_modules._recording.loop.root_forwards import RootForward, micro_batches_of
from otel_torch_modules._recording.modules.mode import in_training
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._texts import describe_error

# Of the modules that are roots of a step that is left out only so many are known.
_MOST_MODULES = 16

# What a backward writes after its last mark, recompute left out: two events of its end, and a few to spare.
_EVENTS_AFTER_MARK = 8


class OpenStep:
    """One step from its opening to its end.

    Args:
        record: what is recorded of it.
        recorded: whether that is anything.
    """

    __slots__ = (
        "_successor",
        "backwards",
        "backwards_before_root",
        "data_ended",
        "detached_in",
        "dropped",
        "ended",
        "first_reached",
        "gradients",
        "leading",
        "others",
        "raised",
        "record",
        "recorded",
        "released",
        "roots",
        "stepped",
        "thread",
        "training",
        "whole",
    )

    def __init__(self, record: Record, recorded: bool) -> None:
        self.record = record
        self.thread = threading.get_ident()  # the one that trains
        self.recorded = recorded
        self.roots: list[RootForward] = []
        self.leading: list[RootForward] = []  # that were outside it, right before the first
        # The module that is called instead of the first one; None where that is called.
        self._successor: weakref.ref[nn.Module] | None = None
        self.others = 0  # root forwards in a row, of training, of other modules than its root
        self.training = True  # the first root's mode
        self.backwards = 0  # how many have ended
        self.backwards_before_root = 0  # how many had before its last forward
        self.first_reached: int | None = None  # place in `roots`; 0 is the last word
        self.gradients = False  # a backward has left some that nobody has dropped
        self.dropped = False  # gradients have been, since the last backward
        self.data_ended = False  # a loader had no batch any more, since the last backward
        self.stepped = False  # an optimizer has, or a scaler kept it from it
        self.raised = False  # an optimizer's step did
        self.ended = False  # the next root forward in training opens another one
        self.detached_in = 0  # the thread in which it is no span of the program's any more
        self.released = False  # it has been put where the worker may take it
        self.whole = True  # it is not being changed: else what strikes costs it

    @property
    def root(self) -> nn.Module | None:
        """The module whose forwards are counted: the first of the step, or the one that has taken its place.

        None before the first, and where it is gone.
        """
        reference = self.root_reference
        return None if reference is None else reference()

    @property
    def root_reference(self) -> weakref.ref[nn.Module] | None:
        """See `root`. Modules that are gone are told apart by their references."""
        if self._successor is not None:
            return self._successor
        return self.roots[0].module if self.roots else None

    @property
    def root_was_first(self) -> bool:
        """Whether no other has taken its place."""
        return self._successor is None

    @property
    def backwards_without_root(self) -> int:
        """How many have ended since the last forward of the root."""
        return self.backwards - self.backwards_before_root

    def go_on_with(self, module: nn.Module) -> None:
        """Let `module`, which is called now, take the place of the root, which is called no more."""
        if not self.recorded:
            self.record.micro_batches = self.others  # for all that is known each was one
        elif not self.backwards_without_root:
            self.record.micro_batches -= 1  # this forward is of the same one
        self._successor = weakref.ref(module)

    def root_opens(self, module: nn.Module) -> None:
        """Take note of a root forward that is not in training: a teacher's, a metric's."""
        gradients = torch.is_grad_enabled()
        if (self.recorded or gradients) and self._has_use_for(module):
            place = len(self.record.log)
            self.roots.append(
                RootForward(
                    weakref.ref(module), now(), place, self.backwards, gradients, in_training=False
                )
            )

    def trained_root_opens(self, module: nn.Module, wants_gradient: bool) -> bool:
        """Take note of a root forward in training, and whether it was given what a backward may bring a gradient.

        Return whether it is one of the step's root.
        """
        roots = self.roots
        if not roots:
            self.training = module.__dict__.get("training") is True or in_training(module)
        if not roots or self._has_use_for(module):
            place = len(self.record.log)
            roots.append(
                RootForward(
                    weakref.ref(module),
                    now(),
                    place,
                    self.backwards,
                    wants_gradient=wants_gradient,
                )
            )
        if (self._successor or roots[0].module)() is not module:
            return False
        self.backwards_before_root = self.backwards
        return True

    def _has_use_for(self, module: nn.Module) -> bool:
        """Return whether to take note of a forward of `module`; where none is recorded, of which modules there are."""
        if self.recorded:
            return not self.record.truncated
        known = self.roots
        return len(known) < _MOST_MODULES and all(one.module() is not module for one in known)

    def backward_ended(self, accumulates: bool) -> None:
        """Take note of it, whether it has left gradients, and of the first root forward that any has come to."""
        self.backwards += 1
        self.gradients |= accumulates
        self.dropped = self.data_ended = False
        if self.first_reached != 0:
            reached = 0 if len(self.roots) < 2 else self._reached_last()
            self.first_reached = min(reached, self.first_reached or reached)

    def left_by(self, error: BaseException) -> None:
        """Take note that `error` has ended it, outside any module."""
        self.record.failed = True
        self.record.raised = describe_error(error, with_stacktrace=True)

    @property
    def is_yet_to_train(self) -> bool:
        """Whether the gradients that were dropped were not to train by: what follows is no other iteration.

        Where the loop waits for batches, it has not waited for another since the backward. Where it waits for none,
        that was to bring a gradient to what the root was given: an attack, which training follows.
        """
        tags = self.record.log[::WIDTH]
        ended = len(tags) - tags[::-1].index(TASK_END) if TASK_END in tags else 0
        if holds_wait(tags):
            return not holds_wait(tags[ended:])
        trained = [
            root
            for root in self.roots
            if root.backwards < self.backwards and root.module is self.root_reference
        ]
        return trained != [] and trained[-1].wants_gradient

    @property
    def is_attack(self) -> bool:
        """Whether the gradients that were asked for in evaluation mode are for an input that training follows with.

        Where the loop waits for no batches an evaluation may do that as well: there more than one were for nothing.
        """
        once = self.record.micro_batches == 1
        return self.is_yet_to_train and (once or holds_wait(self.record.log[::WIDTH]))

    @property
    def reached_what_was_before(self) -> bool:
        """Whether the backward that ended last has come to nodes from before the step."""
        log = self.record.log
        if not self.roots or not self.record.log or not isinstance(log[0], Site):
            return False
        marks = range(len(log) - WIDTH, max(len(log) - _EVENTS_AFTER_MARK * WIDTH, 0) - 1, -WIDTH)
        return any(log[place] is MARK and log[place + 2] < log[2] for place in marks)

    def _reached_last(self) -> int:
        # Backward goes from the highest sequence number to the lowest, so its last mark has come furthest.
        log = self.record.log
        end = len(log)
        for place in range(end - WIDTH, max(end - _EVENTS_AFTER_MARK * WIDTH, 0) - 1, -WIDTH):
            if log[place] is MARK:
                for number in range(len(self.roots) - 1, 0, -1):
                    begun = self.roots[number].place
                    if (
                        begun < end
                        and isinstance(log[begun], Site)
                        and log[begun + 1] == log[place + 1]  # of one thread
                        and log[begun + 2] <= log[place + 2]
                    ):
                        return number
                break
        return 0

    def _early_roots(self) -> int:
        """Return how many of the first root forwards are none of this step's.

        That are those of the module that is trained to which no backward came before the first to which one did,
        unless it was called for a batch that the step had waited for: a count of operations before the loop, the choice
        of an action.
        """
        first = self.first_reached
        if not first or self.record.truncated or self.record.lost:
            return 0
        trained = self.roots[first].module
        log = self.record.log
        for number in range(first - 1, -1, -1):
            root = self.roots[number]
            if root.module is trained:
                after = log[root.place : self.roots[first].place : WIDTH]
                before = log[: root.place : WIDTH]
                return number + 1 if holds_wait(after) or not holds_wait(before) else 0
        return 0

    def first_forwards(self, count: int) -> list[Forward]:
        """Return the first `count` root forwards, each with its log."""
        ends = [self._place_of(number) for number in range(1, count + 1)]
        return self._with_logs(self.roots, ends)

    def _with_logs(self, roots: list[RootForward], ends: list[int]) -> list[Forward]:
        return [
            Forward(root.module, root.start, self.record.log[root.place : end])
            for root, end in zip(roots, ends, strict=False)
        ]

    def all_forwards(self) -> list[Forward]:
        """Return all root forwards, and those that led to them, each with its log."""
        ends = [*(root.place for root in self.leading[1:]), self._place_of(0)]
        return self._with_logs(self.leading, ends) + self.first_forwards(len(self.roots))

    def leave_early_roots(self) -> list[Forward]:
        """Return the first root forwards that are none of this step's, and give them up."""
        early = self._early_roots()
        if not early:
            return []
        left = self.first_forwards(early)
        record, place = self.record, self._place_of(early)
        self.whole = False
        record.start = begin_of(record.log, place)
        del record.log[:place]
        self.roots = self.roots[early:]
        record.micro_batches = micro_batches_of(self.roots)
        self.first_reached = 0
        self.whole = True
        return left

    def leave_from(self, number: int) -> tuple[list[Any], list[RootForward]]:
        """Return the log from a root forward on, and the root forwards in it, which are another step's."""
        place, backwards = self._place_of(number), self.roots[number].backwards
        left = self.roots[number:]
        record, log = self.record, self.record.log
        self.whole = False
        del self.roots[number:]
        record.log = log[:place]
        record.end = record.log[3 - WIDTH]
        del log[:place]  # the list that open calls go on writing to
        record.micro_batches = micro_batches_of(self.roots)
        self.whole = True
        return log, [
            root._replace(place=root.place - place, backwards=root.backwards - backwards)
            for root in left
        ]

    def leave_waits(self) -> list[Wait]:
        """Return the waits for data with which it ends, and give them up: the step that follows has waited."""
        log = self.record.log
        place = first_wait_before(log, len(log))
        waits = waits_from(log, place)
        del log[place:]
        return waits

    def _place_of(self, number: int) -> int:
        """Return where in the log a root forward begins, with the waits for data right before it."""
        if number == len(self.roots):
            return len(self.record.log)
        return first_wait_before(self.record.log, self.roots[number].place)
