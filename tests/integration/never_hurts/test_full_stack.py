"""The program's stack is full: the error is its own, and the step is there, whatever of ours was struck by it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from opentelemetry.trace import StatusCode
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.small_training import train

FRAMES = range(
    8
)  # a call of a module, with what we do for it, is some frames: the last may be any of them
ROOM = 300
STEPS = 2


class Endless(nn.Module):
    """Calls itself until there is no room for another call, and a part at each."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self(self.part(x))


class Saved(nn.Module):
    """Does without what cannot be computed."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.endless = Endless(part)
        self.after = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        with pytest.raises(RecursionError):
            self.endless(x)
        return self.after(x)


def frames_further(frames: int, call: Callable[[], None]) -> None:
    """Make `call` so many frames further from the bottom of the stack."""
    if frames:
        frames_further(frames - 1, call)
    else:
        call()


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> Any:
    """So that there are few spans."""
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + ROOM)
    yield
    sys.setrecursionlimit(limit)


def step(calls: int, parts: int) -> str:
    """Return the outline of a step of `Saved` in which there was room for so many calls."""
    lines = ["train.step", "  forward Saved", "    forward before"]
    for depth in range(calls):
        lines.append((4 + 2 * depth) * " " + ("forward Endless" if depth else "forward endless"))
        lines += [(6 + 2 * depth) * " " + "forward part"] * (depth < parts)
    lines += ["    forward after", "  backward", "    backward Saved"]
    lines += ["      backward after", "      backward before", "  optimizer.step SGD"]
    return "\n".join(lines)


def is_failed(span: CapturedSpan) -> bool:
    return span.span.status.status_code is StatusCode.ERROR


PARTS: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.Identity,
    "an operation": nn.Tanh,
    "a parameter": lambda: nn.PReLU(),
}


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("shapes", [False, True])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_step_is_there(
    part: Callable[[], nn.Module], shapes: bool, frames: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = Saved(part())
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(causes=(), record_shapes=shapes)) as captured:
        for _ in range(STEPS):
            frames_further(frames, lambda: train(model, sgd))
    assert [record.getMessage() for record in caplog.records] == []
    assert len(captured.trees) == STEPS
    for tree in captured.trees:
        outline = tree.outline()
        calls, parts = outline.lower().count("forward endless"), outline.count("forward part")
        assert parts in (calls - 1, calls)
        assert outline == step(calls, parts)
        assert not is_failed(tree)
        (endless,) = tree.find("forward endless")
        assert all(map(is_failed, [endless, *endless.find("forward Endless")]))
        assert "RecursionError" in str(endless.span.status.description)


@pytest.mark.parametrize("frames", FRAMES)
def test_one_that_ends_by_it_has_failed(frames: int, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(Endless(nn.Tanh()))
    with capture_spans(Config(causes=())) as captured, pytest.raises(RecursionError):
        frames_further(frames, lambda: model(torch.ones(2, 4)))
    assert [record.getMessage() for record in caplog.records] == []
    (tree,) = captured.trees
    assert (tree.name, is_failed(tree)) == ("train.step", True)
