"""What a signal handler raises between any two lines that change a step: the step is sent whole, or is lost."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from otel_torch_modules import Config
from otel_torch_modules._recording.loop import (
    border,
    current_step,
    ended_steps,
    hindsight,
    open_step,
    root_forwards,
)
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.support.small_training import Net, batch, by_hand, loader, train

if TYPE_CHECKING:
    from _typeshed import TraceFunction

pytestmark = pytest.mark.usefixtures("only_own_optimizers")

STRUCK = {
    module.__file__
    for module in (border, current_step, ended_steps, hindsight, open_step, root_forwards)
}


class Interrupted(BaseException):
    """What the handler raises."""


class Handler:
    """Raises before one of the lines that change a step, when that is first come to.

    Args:
        line: which one, counted from 0 as they are.
    """

    def __init__(self, line: int) -> None:
        self._line = line
        self._lines: set[tuple[CodeType, int]] = set()
        self.where: tuple[str, int] | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in STRUCK:
            return None
        line = frame.f_code, frame.f_lineno
        if event == "line" and line not in self._lines:
            if len(self._lines) == self._line:
                self.where = frame.f_code.co_name, frame.f_lineno
                raise Interrupted
            self._lines.add(line)
        return self

    def strikes_in(self, program: Callable[[], None]) -> bool:
        """Return whether `program` comes to that line."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            program()
        except Interrupted:
            pass
        finally:
            sys.settrace(before)
        return self.where is not None


def optimizer(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def a_forward_before_the_loop(model: nn.Module) -> None:
    sgd = optimizer(model)
    model(batch())
    train(model, sgd)


def a_forward_before_a_loop_with_a_loader(model: nn.Module) -> None:
    sgd = optimizer(model)
    model(batch())
    for inputs in loader(2):
        model(inputs).sum().backward()
        sgd.step()


def two_optimizers(model: nn.Module) -> None:
    first, second = optimizer(model), optimizer(model)
    model(batch()).sum().backward()
    first.step()
    second.step()


def no_optimizer(model: nn.Module) -> None:
    for _ in range(3):
        model(batch()).sum().backward()
        by_hand(model)


def an_update_that_is_skipped(model: nn.Module) -> None:
    sgd = optimizer(model)
    for skips in (False, False, True, False):
        loss = model(batch()).sum()
        sgd.zero_grad()
        loss.backward()
        if not skips:
            sgd.step()


PROGRAMS = [
    a_forward_before_the_loop,
    a_forward_before_a_loop_with_a_loader,
    two_optimizers,
    no_optimizer,
    an_update_that_is_skipped,
]


def steps(captured: Captured) -> set[tuple[str, object, bool]]:
    return {as_compared(tree) for tree in captured.trees if tree.name == "train.step"}


def as_compared(tree: CapturedSpan) -> tuple[str, object, bool]:
    lies_within = all(tree.start <= span.start <= span.end <= tree.end for span in tree.walk())
    return tree.outline(), tree.attributes["torch.step.micro_batches"], lies_within


def run(program: Callable[[nn.Module], None], handler: Handler) -> tuple[Captured, bool]:
    """Return what is captured of `program`, and of two plain steps after it, and whether the handler has struck."""
    model = Net()
    with capture_spans(Config(causes=())) as captured:
        struck = handler.strikes_in(lambda: program(model))
        model.zero_grad()
        sgd = optimizer(model)
        train(model, sgd)
        train(model, sgd)
    return captured, struck


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_whole_or_lost(
    program: Callable[[nn.Module], None], caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, _ = run(program, Handler(sys.maxsize))
    whole = steps(undisturbed)
    torn: list[tuple[object, object]] = []
    line = 0
    while True:
        handler = Handler(line)
        captured, struck = run(program, handler)
        if not struck:
            break
        line += 1
        torn += [(handler.where, tree) for tree in steps(captured) - whole]
        errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
        torn += [(handler.where, entry.getMessage()) for entry in errors]
        caplog.clear()
    assert line > 50
    assert torn == []
