"""A signal handler that calls modules, wherever in our code for a backward it strikes: each backward is there once."""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules._recording import backward_tasks, graph_tasks
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.small_training import Net, batch

if TYPE_CHECKING:
    from _typeshed import TraceFunction

OURS = {graph_tasks.__file__, backward_tasks.__file__}


class Handled(nn.Linear):
    """What the handler calls."""


class Strikes:
    """Calls a module before one of the opcodes of our code that run in a backward.

    Args:
        at: which one.
    """

    module = Handled(4, 4)

    def __init__(self, at: int) -> None:
        self.left = at
        self.where: tuple[str, int] | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in OURS:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if self.left == 0:
                self.where = frame.f_code.co_name, frame.f_lineno
                self.module(batch())
            self.left -= 1
        return self


def backward(loss: Tensor, strikes: Strikes) -> None:
    before = sys.gettrace()
    sys.settrace(strikes)
    try:
        loss.backward()
    finally:
        sys.settrace(before)


def without_what_was_called(span: CapturedSpan) -> list[object]:
    """Return the tree below `span` as lists of names, but for what the handler has called."""
    below = [without_what_was_called(one) for one in span.children if "Handled" not in one.name]
    return [span.name, *below]


@pytest.mark.parametrize("detail", ["all", "1"], ids=["modules", "phases only"])
def test_each_backward_is_there_once(detail: str) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    places: list[tuple[str, int] | None] = []
    with capture_spans(Config(causes=(), detail_ranks=detail)) as captured:
        while None not in places:  # where no opcode is left
            loss = model(batch()).sum()
            strikes = Strikes(len(places))
            backward(loss, strikes)
            sgd.step()
            places.append(strikes.where)
    *struck, whole = captured.trees
    assert [tree.name for tree in captured.trees] == ["train.step"] * len(places)
    assert len(places) > 100
    torn, left_out = [], set()
    for place, tree in zip(places, struck, strict=False):
        if without_what_was_called(tree) != without_what_was_called(whole):
            torn.append((place, tree.outline()))
        called = [span for span in tree.walk() if "Handled" in span.name]
        if len(called) != (detail == "all"):
            left_out.add(place)
    assert torn == []
    assert {name for name, _ in left_out} <= {"_leave", "_end", "__call__"}  # it has ended
