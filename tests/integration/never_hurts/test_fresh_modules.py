"""Modules that are made while training runs: what is done for one does not grow with the model, nor with how many came.

Counted are the functions of ours that run on the training thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import otel_torch_modules
from otel_torch_modules.testing import capture_spans

OURS = str(Path(otel_torch_modules.__file__).parent)
MOST_FOR_A_MODULE = 48  # functions of ours; a call of a known module takes 2, and 3 marks
STEPS = 6


class Model(nn.Module):
    """Has many modules that it does not call, and calls three."""

    def __init__(self, idle: int) -> None:
        super().__init__()
        self.idle = nn.ModuleList(nn.Sequential(nn.Identity()) for _ in range(idle))
        self.inp = nn.Linear(4, 4)
        self.experts = nn.ModuleList([nn.Linear(4, 4)])
        self.out = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.experts[-1](self.inp(x)))


class GrowsInside(Model):
    def forward(self, x: Tensor) -> Tensor:
        self.experts.append(nn.Linear(4, 4))
        return super().forward(x)


class Activates(Model):
    fresh = 20

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        for _ in range(self.fresh):
            x = nn.ReLU()(x)
        return x


def grows(idle: int) -> Callable[[], Tensor]:
    model = GrowsInside(idle)
    return lambda: model(torch.ones(2, 4)).sum()


def fresh_criterion(idle: int) -> Callable[[], Tensor]:
    model = Model(idle)
    return lambda: nn.MSELoss()(model(torch.ones(2, 4)), torch.zeros(2, 4))


def fresh_activations(idle: int) -> Callable[[], Tensor]:
    model = Activates(idle)
    return lambda: model(torch.ones(2, 4)).sum()


def same_modules(idle: int) -> Callable[[], Tensor]:
    model, criterion = Model(idle), nn.MSELoss()
    return lambda: criterion(model(torch.ones(2, 4)), torch.zeros(2, 4))


def functions_called(loss: Callable[[], Tensor]) -> list[int]:
    """Return how many functions of ours each step calls on this thread, once all that happens but once has."""
    counts = []
    called = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal called
        called += event == "call" and frame.f_code.co_filename.startswith(OURS)

    with capture_spans():
        for _ in range(STEPS):
            called = 0
            sys.setprofile(count)
            with otel_torch_modules.step():
                loss().backward()
            sys.setprofile(None)
            counts.append(called)
    return counts[3:]


@pytest.mark.parametrize(
    ("loop", "fresh"), [(grows, 1), (fresh_criterion, 1), (fresh_activations, Activates.fresh)]
)
def test_a_fresh_module_takes_as_much_in_a_large_model_as_in_a_small_one(
    loop: Callable[[int], Callable[[], Tensor]], fresh: int
) -> None:
    # The quietest of some steps: a collection of garbage, or a look at a root, calls functions now and then.
    usual = min(functions_called(same_modules(30)))
    small, large = min(functions_called(loop(30))), min(functions_called(loop(3_000)))
    assert large <= small + 1
    assert small <= usual + fresh * MOST_FOR_A_MODULE


def after_a_teacher(idle: int) -> Callable[[], Any]:
    teacher, student = Model(idle).eval(), Model(1)
    sgd = torch.optim.SGD(student.parameters())

    def train() -> None:
        with torch.no_grad():
            target = teacher(torch.ones(2, 4))
        (student(torch.ones(2, 4)) - target).sum().backward()
        sgd.step()

    return train


def test_what_is_called_before_a_step_takes_as_much_in_a_large_model_as_in_a_small_one() -> None:
    """Also of torch's functions: a walk through all its modules, to see whether it is trained, is one."""

    def called_by(train: Callable[[], Any]) -> int:
        counts = []
        called = 0

        def count(frame: FrameType, event: str, _: Any) -> None:
            nonlocal called
            called += event == "call"

        with capture_spans():
            for _ in range(2 * STEPS):
                called = 0
                sys.setprofile(count)
                train()
                sys.setprofile(None)
                counts.append(called)
        # A collection of garbage, or a look at the model, comes now and then.
        return min(counts[STEPS:])

    small, large = called_by(after_a_teacher(30)), called_by(after_a_teacher(3_000))
    assert large <= small + 10
